import sys

from services.gateway.settings import Settings
from services.gateway.wiring import build
from services.kit.process import run_service

if __name__ == "__main__":
    sys.exit(run_service("gateway", Settings.load, build))
