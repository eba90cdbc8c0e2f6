"""Run the command line with ``python -m azureml_local``."""

import sys

from azureml_local.cli import main

if __name__ == "__main__":
    sys.exit(main())
