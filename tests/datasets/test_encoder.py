"""Encoding: the encoder's own vectors, each text once, whatever interrupts or runs beside it."""

import hashlib
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import embedllm.datasets.encoder
from embedllm import encode_questions
from embedllm.datasets._heads import heads_of

TEXTS = [
    "How many eggs are left?",
    "Prove that the sum of two odd numbers is even.",
    "print([x for x in range(3)])",
    "모델은 몇 개입니까? 🦙",
    "",
    'line\nbreaks,\tcommas and "quotes"',
    "A longer question. " * 20,
]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache for each test."""
    monkeypatch.setenv("EMBEDLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def encode(small_encoder):
    def function(texts, **settings):
        return encode_questions(texts, small_encoder, device="cpu", **settings)

    return function


@pytest.fixture
def instead(monkeypatch):
    """Return the function that replaces the encoder's `encode`; the replacement gets the original as well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

    def replace(function):
        original = SentenceTransformer.encode
        monkeypatch.setattr(
            SentenceTransformer,
            "encode",
            lambda self, texts, **options: function(lambda: original(self, texts, **options), texts),
        )

    return replace


@pytest.fixture
def encoded(instead):
    """Return the list to which every text is added that goes through the encoder, but for the probe of the cache."""
    seen = []

    def count(run, texts):
        seen.extend(text for text in texts if text != embedllm.datasets.encoder._PROBE)
        return run()

    instead(count)
    return seen


def independent(folder, texts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(texts, batch_size=1)


def database(cache):
    (path,) = (cache / "embeddings").iterdir()
    return path


class TestVectors:
    def test_are_those_of_sentence_transformers_to_the_rounding_of_float16(self, encode, small_encoder):
        vectors = encode(TEXTS)
        expected = independent(small_encoder, TEXTS)
        assert vectors.shape == (len(TEXTS), 384)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, expected, rtol=2**-10, atol=2**-14)
        np.testing.assert_array_equal(vectors, vectors.astype(np.float16))

    def test_from_the_cache_are_the_same_bits(self, encode, encoded):
        fresh = encode(TEXTS)
        assert len(encoded) == len(TEXTS)
        assert encode(TEXTS).tobytes() == fresh.tobytes()
        assert len(encoded) == len(TEXTS)

    def test_follow_the_order_of_the_texts(self, encode):
        vectors = encode(TEXTS)
        order = np.random.default_rng(0).permutation(len(TEXTS))
        np.testing.assert_array_equal(encode([TEXTS[position] for position in order]), vectors[order])

    def test_do_not_depend_on_the_batch_but_for_rounding(self, encode, cache):
        vectors = encode(TEXTS)
        shutil.rmtree(cache)
        np.testing.assert_allclose(encode(TEXTS, batch_size=2), vectors, atol=2**-13)

    @pytest.mark.slow
    def test_of_several_processes_are_those_of_one(self, encode, small_encoder, cache):
        vectors = encode(TEXTS)
        shutil.rmtree(cache)
        parallel = encode_questions(TEXTS, small_encoder, device=["cpu", "cpu"])
        np.testing.assert_allclose(parallel, vectors, atol=2**-13)

    @pytest.mark.parametrize("empty", [[], (), np.array([], dtype=object), pd.Series([], dtype=object)], ids=repr)
    def test_of_no_texts_have_a_width(self, encode, empty):
        vectors = encode(empty)
        assert vectors.shape == (0, 384)
        assert vectors.dtype == np.float32

    @pytest.mark.parametrize("kind", [tuple, pd.Series, lambda texts: np.array(texts, dtype=object)])
    def test_of_any_sequence(self, encode, kind):
        np.testing.assert_array_equal(encode(kind(TEXTS)), encode(TEXTS))

    def test_reproduce_those_of_zeroeval(self, mpnet, zeroeval_folder):
        prompts = pd.read_csv(zeroeval_folder / "question_order.csv", keep_default_na=False)["prompt"]
        short = prompts[prompts.str.len() < 600]
        sample = short.iloc[:: len(short) // 30]
        vectors = encode_questions(sample.tolist(), mpnet, device="cpu")
        expected = np.load(zeroeval_folder / "question_embeddings.npy")[sample.index].astype(np.float32)
        assert ((vectors * expected).sum(axis=1) > 0.999).all()


class TestCache:
    def test_encodes_each_distinct_text_once_and_only_new_ones(self, encode, encoded):
        encode(["a", "b", "a", "a"])
        assert sorted(encoded) == ["a", "b"]
        encode(["b", "c", "a", "c"])
        assert sorted(encoded) == ["a", "b", "c"]

    def test_tells_near_equal_texts_apart(self, encode, encoded):
        encode(["a", "a ", "A", "\u00e9", "e\u0301"])
        assert len(encoded) == 5

    def test_vectors_of_an_equal_encoder_are_found(self, encode, encoded, small_encoder, tmp_path):
        shutil.copytree(small_encoder, tmp_path / "copy")
        vectors = encode(TEXTS)
        np.testing.assert_array_equal(encode_questions(TEXTS, tmp_path / "copy"), vectors)
        assert len(encoded) == len(TEXTS)

    def test_interrupted_run_goes_on_where_it_was(self, encode, encoded, instead, monkeypatch):
        monkeypatch.setattr(embedllm.datasets.encoder, "_SLAB", 3)
        texts = [f"question {'very ' * length}long" for length in range(8)]
        interrupted = []

        def fail_once_in_slab_2(run, slab):
            if len(encoded) >= 3 and not interrupted:
                interrupted.append(True)
                raise KeyboardInterrupt
            return run()

        instead(fail_once_in_slab_2)
        with pytest.raises(KeyboardInterrupt):
            encode(texts)
        assert encoded == texts[:4:-1]  # the longest come first
        encode(texts)
        assert sorted(encoded) == sorted(texts)

    def test_two_processes_at_once(self, small_encoder, cache):
        # Both write vectors of the same texts and of some of their own, one at a time.
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=encode_many, args=(small_encoder, start)) for start in (0, 20)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0]
        with sqlite3.connect(database(cache)) as connection:
            assert connection.execute("SELECT count(*) FROM embeddings").fetchone() == (61,)  # and the probe
        connection.close()

    def test_vectors_of_libraries_that_encode_differently_are_not_mixed(self, encode, encoded, instead):
        then = encode(["a", "b"])
        instead(lambda run, _: -run())  # a library that gives other vectors for the same weights
        np.testing.assert_array_equal(encode(["a", "b"]), then)  # from the cache as a whole
        encoded.clear()
        with pytest.warns(UserWarning, match="give other vectors of the encoder .* than those in the cache, which is"):
            now = encode(["a", "b", "c"])
        np.testing.assert_allclose(now[:2], -then, atol=2**-13)
        assert sorted(encoded) == ["a", "b", "c"]
        np.testing.assert_array_equal(encode(["c", "b", "a"]), now[::-1])

    def test_cache_without_the_probe_is_judged_by_a_text_that_it_has(self, encode, cache, instead):
        encode(["a", "b"])
        with sqlite3.connect(database(cache)) as connection:
            connection.execute("DELETE FROM embeddings WHERE key = ?", (hashlib.sha256(b"What is 7 + 8?").digest(),))
        connection.close()
        instead(lambda run, _: 2 * run())  # of the same direction, but not normalized
        with pytest.warns(UserWarning, match="give other vectors of the encoder"):
            encode(["b", "c"])

    def test_rounding_is_no_difference(self, encode, encoded, instead):
        encode(["a"])
        instead(lambda run, _: run() * 1.001)
        encode(["a", "b"])
        assert encoded == ["a", "b"]

    def test_waits_for_another_writer(self, encode, cache):
        encode(["a"])
        other = sqlite3.connect(database(cache), isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        import threading

        timer = threading.Timer(0.5, lambda: other.execute("COMMIT"))
        timer.start()
        assert encode(["b"]).shape == (1, 384)
        timer.join()
        other.close()

    def test_needs_no_encoder_for_what_it_holds(self, small_encoder, encode):
        vectors = encode(TEXTS)
        code = f"""
import sys
from embedllm import encode_questions
vectors = encode_questions({TEXTS!r}, {str(small_encoder)!r})
assert not {{"sentence_transformers", "transformers", "torch"}} & set(sys.modules)
sys.stdout.buffer.write(vectors.tobytes())
"""
        run = subprocess.run([sys.executable, "-c", code], capture_output=True)
        assert run.returncode == 0, run.stderr.decode()
        assert run.stdout == vectors.tobytes()

    def test_damaged_file_is_named(self, encode, cache):
        encode(TEXTS)
        path = database(cache)
        content = path.read_bytes()
        for damaged in (b"not a database at all" * 100, content[: len(content) // 2]):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=rf"{path.name} is damaged .*: delete the file"):
                encode(TEXTS)
        path.write_bytes(b"")  # which SQLite takes for a new database
        assert encode(["a"]).shape == (1, 384)

    def test_cache_of_an_earlier_version_stays_unread(self, encode, cache, encoded):
        encode(["a"])
        with sqlite3.connect(database(cache)) as connection:
            connection.execute(
                "CREATE TABLE vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL, crc INTEGER NOT NULL)"
            )
            connection.execute("INSERT INTO vectors SELECT key, vector, 0 FROM embeddings")
            connection.execute("DROP TABLE embeddings")
        connection.close()
        for _ in range(2):
            assert encode(["a"]).shape == (1, 384)
        assert encoded == ["a", "a"]

    @pytest.mark.parametrize("error", [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), sqlite3.OperationalError("y")])
    def test_fault_of_the_encoder_is_not_blamed_on_it(self, encode, instead, error):
        def fail(*_):
            raise error

        instead(fail)
        with pytest.raises(type(error)) as caught:
            encode(["a"])
        assert caught.value is error

    def test_fault_while_writing_names_it(self, encode, cache, instead):
        def drop(run, _):
            with sqlite3.connect(database(cache)) as connection:
                connection.execute("DROP TABLE embeddings")
            connection.close()
            return run()

        instead(drop)
        with pytest.raises(OSError, match=r"\.sqlite cannot be used \(no such table.*set EMBEDLLM_CACHE"):
            encode(["a"])

    def test_folder_that_cannot_be_one(self, encode, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("EMBEDLLM_CACHE", str(tmp_path / "file"))
        with pytest.warns(UserWarning, match=r"the cache .*file cannot be made .* set EMBEDLLM_CACHE"):
            encode(["a"])
        (tmp_path / "folder").mkdir()
        monkeypatch.setenv("EMBEDLLM_CACHE", str(tmp_path / "folder"))
        encode(["a"])
        path = database(tmp_path / "folder")
        path.unlink()
        path.mkdir()
        with pytest.raises(OSError, match=rf"{path.name} cannot be used .*set EMBEDLLM_CACHE"):
            encode(["a"])

    @pytest.mark.parametrize("is_there", [True, False])
    def test_cache_that_cannot_be_written(self, encode, cache, monkeypatch, is_there):
        """What it holds is used, and what is new is encoded all the same."""
        known = encode(["a", "b"]) if is_there else None
        before = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.warns(UserWarning, match="cannot be written, so new vectors are not kept: set EMBEDLLM_CACHE"):
            found = encode(["b", "c", "a"])
        assert np.isfinite(found).all()
        if known is not None:
            np.testing.assert_array_equal(found[[2, 0]], known)
        assert {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()} == before

    def test_default_folder(self, encode, tmp_path, monkeypatch):
        monkeypatch.delenv("EMBEDLLM_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        encode(["a"])
        assert database(tmp_path / "xdg" / "embedllm").suffix == ".sqlite"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        encode(["a"])
        assert database(tmp_path / "home" / ".cache" / "embedllm").suffix == ".sqlite"


def encode_many(encoder, start):
    vector = np.ones(384, dtype=np.float16)
    embedllm.datasets.encoder._encode = lambda texts, *_: ({key: vector} for key in texts)
    encode_questions([f"question {number}" for number in range(start, start + 40)], encoder)


class TestTexts:
    def test_single_text_is_refused(self, encode):
        with pytest.raises(TypeError, match="texts must be a list of texts, got the text 'How many'"):
            encode("How many")

    @pytest.mark.parametrize("entry", [None, float("nan"), 7, b"bytes", ["nested"]], ids=repr)
    def test_entry_that_is_not_text_is_named(self, encode, entry):
        with pytest.raises(TypeError, match=f"text 2 is not text but {type(entry).__name__}"):
            encode(["a", "b", entry])

    @pytest.mark.parametrize("text", ["x\ud83d", "\udc00", "\ud83d\ude00", "é" * 1000 + "\udfff"], ids=ascii)
    def test_half_a_surrogate_pair_is_named(self, encode, text):
        with pytest.raises(ValueError, match="text 1 holds half a surrogate pair"):
            encode(["é", text])

    def test_texts_that_are_cut_are_counted_once(self, encode):
        words = "word " * 254  # with two marks of its own, the encoder reads 256 tokens
        texts = [words, words + "more", words * 3, "short", words * 3]
        with pytest.warns(UserWarning, match="2 of 4 new texts are longer than the 256 tokens") as caught:
            vectors = encode(texts)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        # What is cut has no effect.
        np.testing.assert_allclose(vectors[1], vectors[0], atol=2**-13)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            encode(texts)

    def test_vector_that_is_not_finite_is_refused_and_not_kept(self, encode, encoded, instead):
        factors = [1, np.inf, 1, 1]  # the probe goes first
        instead(lambda run, _: run() * factors.pop(0))
        with pytest.raises(ValueError, match=r"gives no finite vector \(in float16\) for 'a'"):
            encode(["a"])
        assert np.isfinite(encode(["a"])).all()
        assert encoded == ["a", "a"]

    def test_libraries_speak_again_afterwards(self, encode):
        import logging

        from transformers.utils import logging as transformers_logging

        before = [logging.getLogger(name).level for name in ("transformers", "sentence_transformers")]
        encode(["a"])
        assert [logging.getLogger(name).level for name in ("transformers", "sentence_transformers")] == before
        assert transformers_logging.is_progress_bar_enabled()


class TestSettings:
    @pytest.mark.parametrize("batch_size", [0, -1, 1.5, True, "8"])
    def test_batch_size(self, encode, batch_size):
        with pytest.raises(ValueError, match="batch_size must be a positive whole number"):
            encode(["a"], batch_size=batch_size)

    @pytest.mark.parametrize("device", ["gpu", "", "cuda:0", []], ids=repr)
    def test_device(self, small_encoder, device):
        with pytest.raises(ValueError, match="device"):
            encode_questions(["a"], small_encoder, device=device)

    @pytest.mark.parametrize("device", ["tpu", "auto", "cuda:2", "cuda:-1", "cuda:x", "cuda:", "cpu:0", "", None, 0])
    def test_device_of_a_list(self, small_encoder, monkeypatch, device):
        monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
        with pytest.raises(ValueError, match=r"may name \['cpu', 'cuda', 'cuda:0', 'cuda:1'\] .*, got ") as caught:
            encode_questions(["a"], small_encoder, device=["cpu", device])
        assert str(caught.value).endswith(f"got {device!r}")

    @pytest.mark.parametrize("device", ["cuda", "cuda:0"])
    def test_gpu_of_a_list_where_there_is_none(self, small_encoder, monkeypatch, device):
        monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
        with pytest.raises(ValueError, match=rf"may name \['cpu'\] on this machine, got '{device}'"):
            encode_questions(["a"], small_encoder, device=[device])


def test_path_of_an_encoder_may_be_text_or_relative(encode, small_encoder, monkeypatch):
    monkeypatch.chdir(small_encoder.parent)
    vectors = encode(["a"])
    np.testing.assert_array_equal(encode_questions(["a"], "model"), vectors)
    np.testing.assert_array_equal(encode_questions(["a"], Path("model")), vectors)


def test_long_texts_are_cut_where_it_makes_no_difference(small_encoder):
    model = embedllm.datasets.encoder._load.__wrapped__(small_encoder, "", "cpu")
    words = " ".join(f"word{number}," for number in range(3_000))
    texts = [words, "x" * 100_000, " " * 50_000 + "end", "short", words[:1_000]]
    heads, n_longer = heads_of(texts, model)
    assert [len(head) for head in heads] == [16 * 256, 256 * 256, 50_003, 5, 1_000]
    assert n_longer == sum(len(ids) > 256 for ids in model.tokenizer(texts)["input_ids"]) + 1  # the long word is cut
    np.testing.assert_allclose(model.encode(heads), model.encode(texts), atol=1e-6)
