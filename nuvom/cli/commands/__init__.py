"""One file per group of commands; ``nuvom.cli.cli`` refers to them by name and loads one."""
