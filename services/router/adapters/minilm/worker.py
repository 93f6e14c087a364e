"""The worker process: `python -m services.router.adapters.minilm.worker DIRECTORY THREADS DESCRIPTOR`."""

import signal
import socket
import sys
from pathlib import Path

from services.kit.artifacts import ArtifactError
from services.router.adapters.minilm import frames
from services.router.adapters.minilm.model import MiniLM


def main(arguments: list[str]) -> int:
    """Answer frames of texts until the parent's end of the socket closes, however the parent ended."""
    directory, threads, descriptor = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    # A signal to the whole process group is the parent's to handle: it may be draining, and still need
    # answers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as channel:
        try:
            model = MiniLM(directory, threads=threads)
        except ArtifactError as error:
            channel.sendall(frames.frame(str(error).encode()))
            return 1
        try:
            serve(model, channel)
        except (BrokenPipeError, ConnectionResetError):
            return 0
    return 0


def serve(model: MiniLM, channel: socket.socket) -> None:
    """Say that the model is ready, then answer frame by frame."""
    channel.sendall(frames.frame(b""))
    with channel.makefile("rb") as stream:
        while (content := frames.read(stream)) is not None:
            vectors, token_counts = model.embed(frames.unpack_texts(content))
            answer = frames.pack_answer(token_counts, vectors.astype("<f4", copy=False).tobytes())
            channel.sendall(frames.frame(answer))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
