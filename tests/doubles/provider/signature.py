"""The signature of a thinking block: it binds the thought to the model that had it."""

import base64
import hashlib


def sign(model: str, thinking: str) -> str:
    return base64.b64encode(hashlib.sha256(f"{model}\0{thinking}".encode()).digest()).decode()
