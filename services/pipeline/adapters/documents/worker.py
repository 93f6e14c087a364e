"""The process that reads documents: `python -m services.pipeline.adapters.documents.worker ARTIFACTS BYTES`.

A hostile file can at worst use up this process: its memory is bounded here, its time by the service, which
kills it. It ends when its standard input does, so it never outlives the service.
"""

import os
import resource
import signal
import sys
from pathlib import Path
from typing import BinaryIO

from services.pipeline.adapters.documents.frames import PREFIX, pack, pack_answer, unpack_request
from services.pipeline.adapters.documents.reading import read_document
from services.pipeline.adapters.word_pieces import WordPieces
from services.pipeline.domain.document import UnreadableDocumentError


def main() -> None:
    """Answers requests one after the other; the first frame says that it is ready."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    memory_bytes = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    tokenizer = WordPieces.within(Path(sys.argv[1]))
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    # Whatever a library prints must not come between the frames.
    sys.stdout = sys.stderr
    _send(answers, pack({}))
    while prefix := requests.read(PREFIX.size):
        head_bytes, body_bytes = PREFIX.unpack(prefix)
        document, size, label_tokens = unpack_request(requests.read(head_bytes), requests.read(body_bytes))
        try:
            answer = pack_answer(read_document(document, tokenizer, size, label_tokens))
        except UnreadableDocumentError as error:
            answer = pack({"unreadable": str(error)})
        except (MemoryError, RecursionError):
            answer = pack({"unreadable": "it needs too much memory to be read: split the document"})
        _send(answers, answer)


def _send(answers: BinaryIO, frame: bytes) -> None:
    answers.write(frame)
    answers.flush()


if __name__ == "__main__":
    main()
