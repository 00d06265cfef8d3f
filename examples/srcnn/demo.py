"""All three at once: the daemon, whoever drops pictures, and the training (options: train.py's)."""

import argparse
import subprocess
import sys

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--every", default="1", help="seconds between two pictures (default: 1)")
wanted, training = parser.parse_known_args()

python = sys.executable
daemon = subprocess.Popen([python, "-m", "ingestd", "run"])
dropping = subprocess.Popen([python, "drop.py", "--every", wanted.every])
try:
    trained = subprocess.run([python, "train.py", *training])
finally:
    dropping.terminate()
    dropping.wait()
    daemon.terminate()  # it commits what it has, and ends
    daemon.wait()
sys.exit(trained.returncode)
