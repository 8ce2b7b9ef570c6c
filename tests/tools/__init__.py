"""Tests that run other programs: make, rpmbuild, makepkg, Nix, shells, a browser, and the CI run itself."""
