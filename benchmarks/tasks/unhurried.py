"""``nuvom`` whose batches grow as they would on a machine that is fast beyond measure.

A worker sizes its batches by time, and under valgrind everything takes fifty times as long: what
is to be counted are the instructions of a job in a full batch.
"""

from nuvom.cli.cli import main
from nuvom.execution import capacity

if __name__ == "__main__":
    capacity._BATCH_SECS = 1e9  # noqa: SLF001  # there is no setting, and nobody else needs one
    main()
