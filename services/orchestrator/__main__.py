import sys

from services.kit.process import run_service
from services.orchestrator.settings import Settings
from services.orchestrator.wiring import build

if __name__ == "__main__":
    sys.exit(run_service("orchestrator", Settings.load, build))
