import sys

from services.kit.process import run_service
from services.pipeline.settings import Settings
from services.pipeline.wiring import build

if __name__ == "__main__":
    sys.exit(run_service("pipeline", Settings.load, build))
