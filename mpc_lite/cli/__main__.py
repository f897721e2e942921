"""`python -m mpc_lite.cli`, as `accelerate launch -m mpc_lite.cli pretrain …` starts it."""

import sys

from mpc_lite.cli import main

if __name__ == "__main__":
    sys.exit(main())
