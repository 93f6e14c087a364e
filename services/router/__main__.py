import sys

from services.kit.process import run_service
from services.router.settings import Settings
from services.router.wiring import build

if __name__ == "__main__":
    sys.exit(run_service("router", Settings.load, build))
