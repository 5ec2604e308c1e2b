"""One file for each group of commands; ``nuvom.cli.cli`` names them by text and loads one."""
