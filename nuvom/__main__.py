"""``python -m nuvom``: the command line, without the working directory on the import path."""

import sys

# ``-m`` puts the working directory first on the path. Commands that only read must not run code
# from it, so it is removed before anything else is imported; workers add the project root later.
if not sys.flags.safe_path and sys.path:
    del sys.path[0]

from nuvom.cli.cli import main  # after the path is cleaned

if __name__ == "__main__":
    main()
