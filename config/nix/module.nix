# NixOS: services.oomwatchd. The settings become /etc/oomwatchd.toml, which is checked when the system is built.
#
#   services.oomwatchd = {
#     enable = true;
#     package = pkgs.callPackage ./oomwatchd.nix { };  # yours: what `make install PREFIX=$out` makes
#     settings.rule = [
#       { name = "sshd"; comm = "sshd"; user = "root"; oom_score_adj = -1000; }
#     ];
#   };
#
# It was evaluated with a stand-in for nixpkgs, and not tried on a NixOS.
{ config, lib, pkgs, ... }:

let
  cfg = config.services.oomwatchd;
  toml = pkgs.formats.toml { };
  written = toml.generate "oomwatchd.toml" cfg.settings;
  # A mistake fails the build, and the running daemon never sees it.
  checked = pkgs.runCommand "oomwatchd-checked.toml" { } ''
    ${cfg.package}/bin/oomwatchctl check ${written}
    cp ${written} $out
  '';
in
{
  options.services.oomwatchd = {
    enable = lib.mkEnableOption "oomwatchd, which decides by rules whom the OOM killer may take";

    package = lib.mkOption {
      type = lib.types.package;
      description = "The package of oomwatchd.";
    };

    settings = lib.mkOption {
      type = toml.type;
      default = { };
      example = {
        daemon.scan_interval = "10s";
        rule = [
          { name = "sshd"; comm = "sshd"; user = "root"; oom_score_adj = -1000; }
        ];
      };
      description = "The content of /etc/oomwatchd.toml, as oomwatchd.toml(5) has it. Rules are tried in the order of the list.";
    };
  };

  config = lib.mkIf cfg.enable {
    environment.etc."oomwatchd.toml".source = checked;
    environment.systemPackages = [ cfg.package ];
    systemd.packages = [ cfg.package ];
    systemd.services.oomwatchd = {
      wantedBy = [ "multi-user.target" ];
      # An unchanged unit with another configuration is reloaded, which fails in the open where it is refused.
      reloadTriggers = [ checked ];
      # The unit executes from /usr alone; here all programs are in the store.
      serviceConfig.ExecPaths = [ "/nix/store" ];
    };
  };
}
