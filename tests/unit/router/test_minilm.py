import asyncio
import os
import resource
import signal
import struct
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.kit.artifacts import ArtifactError, minilm_directory
from services.kit.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, Unavailable
from services.router.adapters.minilm.embedder import Embeddings, MiniLMEmbedder
from services.router.adapters.minilm.graph import load_graph
from services.router.adapters.minilm.model import MiniLM
from services.router.adapters.minilm.request import CHUNK_CHARACTERS, CHUNK_TEXTS, MAX_TEXT_CHARACTERS, split

TIMEOUT_S = 60.0
CAT = "A cat sleeps on the warm windowsill."
PARAPHRASE = "The kitty is napping by the sunny window."
UNRELATED = "Interest rates rose by half a percent in March."
LONG = "The harbour master counted every ship that came in before the storm. " * 60


@pytest.fixture(scope="session")
def directory() -> Path:
    """The folder of the real model, which set-up fetched."""
    folder = minilm_directory()
    assert (folder / "model.safetensors").is_file(), "run: python -m services.kit.artifacts minilm"
    return folder


@pytest.fixture(scope="session")
def model(directory: Path) -> MiniLM:
    return MiniLM(directory)


@pytest.fixture(scope="session")
async def embedder(directory: Path) -> AsyncIterator[MiniLMEmbedder]:
    async with MiniLMEmbedder(directory) as embedder:
        yield embedder


def rows(embeddings: Embeddings) -> NDArray[np.float32]:
    return np.frombuffer(embeddings.vectors, dtype="<f4").reshape(-1, embeddings.dimension)


def alive(pid: int) -> bool:
    """A zombie is not alive: here nobody may be left to reap an orphan."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20.0):
        while not condition():  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0)


class TestModel:
    def test_vectors_have_384_numbers_and_length_1(self, model: MiniLM) -> None:
        vectors, _ = model.embed([CAT, "", "a", LONG])
        assert vectors.shape == (4, 384)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)

    def test_a_paraphrase_is_closer_than_another_subject(self, model: MiniLM) -> None:
        cat, paraphrase, unrelated = model.embed([CAT, PARAPHRASE, UNRELATED])[0]
        assert cat @ paraphrase > 0.6
        assert cat @ unrelated < 0.2

    def test_word_order_matters_and_case_does_not(self, model: MiniLM) -> None:
        vectors = model.embed(["dog bites man", "man bites dog", "DOG bites Man"])[0]
        assert vectors[0] @ vectors[1] < 0.995
        assert vectors[0] @ vectors[2] > 0.99999

    def test_a_text_has_one_vector_whatever_its_company(self, model: MiniLM) -> None:
        texts = [LONG, CAT, "", UNRELATED, LONG[:700], "a", PARAPHRASE, LONG[:150]]
        together = model.embed(texts)[0]
        for text, vector in zip(texts, together, strict=True):
            assert model.embed([text])[0][0] @ vector > 0.99999

    def test_what_is_beyond_the_window_changes_nothing(self, model: MiniLM) -> None:
        vectors, counts = model.embed([LONG, LONG + UNRELATED, "word " * 254, "word " * 254 + "other"])
        assert counts == [256] * 4
        np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
        np.testing.assert_allclose(vectors[2], vectors[3], atol=1e-6)

    def test_the_last_word_piece_of_the_window_counts(self, model: MiniLM) -> None:
        vectors, counts = model.embed(["word " * 253 + "volcano", "word " * 254])
        assert counts == [256, 256]
        assert vectors[0] @ vectors[1] < 0.9999

    def test_tokens_are_counted_as_the_model_reads_them(self, model: MiniLM) -> None:
        texts = ["", "hello", "hello world", "unaffable", "word " * 253, "word " * 300]
        assert [model.count_tokens(text) for text in texts] == [2, 3, 4, 5, 255, 256]
        assert model.embed(texts)[1] == [model.count_tokens(text) for text in texts]

    def test_no_texts_give_no_vectors(self, model: MiniLM) -> None:
        vectors, counts = model.embed([])
        assert vectors.shape == (0, 384)
        assert counts == []


class TestGraph:
    def test_processes_that_race_for_the_cache_leave_one_whole_file(
        self, directory: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "model.safetensors").symlink_to(directory / "model.safetensors")
        made: list[Path | bytes] = []
        racers = [threading.Thread(target=lambda: made.append(load_graph(tmp_path))) for _ in range(2)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        (cached,) = tmp_path.glob("*.onnx")
        assert made == [cached, cached]
        assert sorted(path.suffix for path in tmp_path.iterdir()) == [".onnx", ".safetensors"]
        official = load_graph(directory)
        assert isinstance(official, Path)
        assert cached.read_bytes() == official.read_bytes()

    def test_a_folder_that_takes_no_file_is_no_hindrance(self, directory: Path, tmp_path: Path) -> None:
        (tmp_path / "model.safetensors").symlink_to(directory / "model.safetensors")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))  # even root cannot write the graph
        try:
            graph = load_graph(tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        official = load_graph(directory)
        assert isinstance(official, Path)
        assert graph == official.read_bytes()
        assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]

    def test_weights_that_are_not_the_official_ones_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "model.safetensors").write_bytes(b"something else")
        with pytest.raises(ArtifactError, match=r"python -m services\.kit\.artifacts minilm"):
            load_graph(tmp_path)


class TestSplitting:
    def test_every_row_is_in_one_chunk_and_chunks_are_small(self) -> None:
        texts = ["x" * (index * 37 % 3000) for index in range(200)]
        chunks = list(split(texts))
        assert sorted(row for chunk in chunks for row in chunk.rows) == list(range(200))
        for chunk in chunks:
            assert len(chunk.rows) <= CHUNK_TEXTS
            assert len(chunk.rows) == 1 or sum(len(texts[row]) for row in chunk.rows) <= CHUNK_CHARACTERS

    def test_a_huge_text_is_cut_before_it_is_sent(self) -> None:
        (chunk,) = split(["word " * 1_000_000])
        assert len(chunk.content) < 70_000


class TestEmbedder:
    async def test_it_answers_as_the_model_does_and_in_order(
        self, embedder: MiniLMEmbedder, model: MiniLM
    ) -> None:
        texts = [LONG, CAT, "", "日本語 🙂", *(f"number {index}" for index in range(70)), LONG[:900]]
        embeddings = await embedder.embed(texts, timeout_s=TIMEOUT_S)
        vectors, counts = model.embed(texts)
        assert embeddings.dimension == 384
        assert embeddings.token_counts == tuple(counts)
        assert np.min(np.sum(rows(embeddings) * vectors, axis=1)) > 0.99999

    async def test_vectors_are_packed_little_endian_float32(self, embedder: MiniLMEmbedder) -> None:
        embeddings = await embedder.embed([CAT], timeout_s=TIMEOUT_S)
        numbers = struct.unpack("<384f", embeddings.vectors)
        assert sum(number * number for number in numbers) == pytest.approx(1.0, abs=1e-5)

    async def test_no_texts_give_no_vectors(self, embedder: MiniLMEmbedder) -> None:
        assert await embedder.embed([], timeout_s=TIMEOUT_S) == Embeddings(
            vectors=b"", dimension=384, token_counts=()
        )

    async def test_a_small_request_does_not_wait_behind_a_large_one(self, embedder: MiniLMEmbedder) -> None:
        ended: list[str] = []

        async def embed(name: str, texts: Sequence[str]) -> None:
            await embedder.embed(texts, timeout_s=TIMEOUT_S)
            ended.append(name)

        large = asyncio.create_task(embed("large", [LONG] * 24))
        await asyncio.sleep(0)
        await asyncio.gather(large, *(embed("small", [f"question {index}"]) for index in range(3)))
        assert ended == ["small", "small", "small", "large"]

    async def test_a_cancelled_request_leaves_the_next_one_right(
        self, embedder: MiniLMEmbedder, model: MiniLM
    ) -> None:
        pid = embedder.worker_pid
        given_up = asyncio.create_task(embedder.embed([LONG] * 200, timeout_s=TIMEOUT_S))
        await asyncio.sleep(0.05)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        async with asyncio.timeout(5.0):  # 200 windows would take some 15 s
            embeddings = await embedder.embed([CAT], timeout_s=TIMEOUT_S)
        assert rows(embeddings)[0] @ model.embed([CAT])[0][0] > 0.99999
        assert embedder.worker_pid == pid

    async def test_a_request_that_takes_too_long_ends_at_its_deadline(self, embedder: MiniLMEmbedder) -> None:
        with pytest.raises(DeadlineExceeded, match=r"200 texts took longer than the 0\.05 s"):
            await embedder.embed([LONG] * 200, timeout_s=0.05)
        assert (await embedder.embed([CAT], timeout_s=TIMEOUT_S)).token_counts == (11,)

    async def test_a_text_that_is_not_unicode_is_the_callers_mistake(self, embedder: MiniLMEmbedder) -> None:
        with pytest.raises(InvalidArgument):
            await embedder.embed(["\ud800"], timeout_s=TIMEOUT_S)

    async def test_a_full_queue_refuses_and_takes_again_when_there_is_room(self, directory: Path) -> None:
        async with MiniLMEmbedder(directory, max_waiting_texts=4) as embedder:
            waiting = asyncio.create_task(embedder.embed([LONG] * 3, timeout_s=TIMEOUT_S))
            await asyncio.sleep(0)
            with pytest.raises(ResourceExhausted, match="3 texts waiting and takes 4 at most"):
                await embedder.embed([CAT] * 2, timeout_s=TIMEOUT_S)
            await waiting
            assert len((await embedder.embed([CAT] * 4, timeout_s=TIMEOUT_S)).token_counts) == 4

    async def test_a_killed_worker_is_replaced_and_nobody_notices(
        self, embedder: MiniLMEmbedder, model: MiniLM
    ) -> None:
        killed = embedder.worker_pid
        assert killed is not None
        under_way = asyncio.create_task(embedder.embed([LONG] * 6, timeout_s=TIMEOUT_S))
        await asyncio.sleep(0.05)
        os.kill(killed, signal.SIGKILL)
        vectors = rows(await under_way)
        assert np.min(vectors @ model.embed([LONG])[0][0]) > 0.99999
        assert embedder.worker_pid not in (None, killed)

    async def test_a_worker_killed_twice_over_one_chunk_is_unavailable(self, directory: Path) -> None:
        async with MiniLMEmbedder(directory) as embedder:
            first = embedder.worker_pid
            assert first is not None
            os.kill(first, signal.SIGSTOP)  # so that it cannot answer before it is killed
            request = asyncio.create_task(embedder.embed([CAT], timeout_s=TIMEOUT_S))
            await asyncio.sleep(0.05)
            os.kill(first, signal.SIGKILL)
            await until(lambda: embedder.worker_pid not in (None, first))
            assert embedder.worker_pid is not None
            os.kill(embedder.worker_pid, signal.SIGKILL)
            with pytest.raises(Unavailable, match="failed twice"):
                await request
            assert (await embedder.embed([CAT], timeout_s=TIMEOUT_S)).token_counts == (11,)

    @pytest.mark.parametrize(
        "text", [CAT, "\U0001f600" * MAX_TEXT_CHARACTERS], ids=["short", "longer than its socket holds"]
    )
    async def test_a_hung_worker_is_killed(self, directory: Path, text: str) -> None:
        async with MiniLMEmbedder(directory, chunk_timeout_s=3.0) as embedder:
            hung = embedder.worker_pid
            assert hung is not None
            os.kill(hung, signal.SIGSTOP)
            assert len((await embedder.embed([text], timeout_s=TIMEOUT_S)).token_counts) == 1
            assert not alive(hung)

    async def test_signals_to_the_group_leave_the_worker_to_its_parent(
        self, embedder: MiniLMEmbedder
    ) -> None:
        await embedder.start()
        pid = embedder.worker_pid
        assert pid is not None
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        await embedder.embed([CAT], timeout_s=TIMEOUT_S)
        assert embedder.worker_pid == pid

    async def test_closing_ends_the_worker_and_what_waits(self, directory: Path) -> None:
        embedder = MiniLMEmbedder(directory)
        waiting = asyncio.create_task(embedder.embed([LONG] * 50, timeout_s=TIMEOUT_S))  # starts it, too
        await until(lambda: embedder.worker_pid is not None)
        pid = embedder.worker_pid
        assert pid is not None
        await embedder.close()
        with pytest.raises(Unavailable, match="shut down"):
            await waiting
        with pytest.raises(Unavailable, match="shut down"):
            await embedder.embed([CAT], timeout_s=TIMEOUT_S)
        assert not alive(pid)
        await embedder.close()

    async def test_a_missing_model_says_how_to_fetch_it(self, tmp_path: Path) -> None:
        embedder = MiniLMEmbedder(tmp_path)
        with pytest.raises(Unavailable, match=r"python -m services\.kit\.artifacts minilm"):
            await embedder.start()
        with pytest.raises(Unavailable, match=r"python -m services\.kit\.artifacts minilm"):
            await embedder.embed([CAT], timeout_s=TIMEOUT_S)
        await embedder.close()

    async def test_the_worker_dies_with_a_killed_parent(self, directory: Path) -> None:
        code = f"""
import asyncio, sys
from pathlib import Path
from services.router.adapters.minilm.embedder import MiniLMEmbedder

async def main():
    async with MiniLMEmbedder(Path({str(directory)!r})) as embedder:
        print(embedder.worker_pid, *{{"numpy", "onnx", "onnxruntime"}} & set(sys.modules), flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""
        parent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code), stdout=asyncio.subprocess.PIPE
        )
        assert parent.stdout is not None
        async with asyncio.timeout(30.0):
            pid, *heavy_modules = (await parent.stdout.readline()).split()
        assert alive(int(pid))
        parent.kill()
        await parent.wait()
        await until(lambda: not alive(int(pid)))
        assert heavy_modules == []
