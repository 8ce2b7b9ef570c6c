# As much of nixpkgs' lib and pkgs as the module uses, without their checks. `given` is a function from the module's own
# example to what somebody's system says.
let
  lib = {
    mkOption = option: option;
    mkEnableOption = what: { description = what; default = false; };
    mkIf = condition: content: if condition then content else { };
    types.package = "package";
  };
  pkgs = {
    formats.toml = { }: {
      type = "toml";
      generate = name: value: "<${name} ${builtins.toJSON value}>";
    };
    runCommand = name: arguments: script: script;
  };
in
{ module, given }:
let
  made = import module {
    inherit lib pkgs;
    config.services.oomwatchd = builtins.mapAttrs (name: option: option.default or null) options // given options.settings.example;
  };
  options = made.options.services.oomwatchd;
in
{
  example = options.settings.example;
  config = made.config;
}
