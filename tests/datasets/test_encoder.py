"""Encoding: the encoder's own vectors, each text once, whatever interrupts or runs beside it."""

import json
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
from embedllm.datasets.encoder import DEFAULT_ENCODER, find_encoder

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
def encoded(monkeypatch):
    """Return the list to which every text is added that goes through the encoder."""
    seen = []
    run = embedllm.datasets.encoder._run
    monkeypatch.setattr(
        embedllm.datasets.encoder, "_run", lambda model, texts, *rest: seen.extend(texts) or run(model, texts, *rest)
    )
    return seen


@pytest.fixture
def copied(small_encoder, tmp_path):
    """A copy of the encoder that a test may change; the weights, which none changes, are linked."""
    shutil.copytree(small_encoder, tmp_path / "copy", copy_function=lambda a, b: os.symlink(a, b))
    for path in (tmp_path / "copy").rglob("*.*"):
        if path.suffix in (".json", ".md", ".txt"):
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
    return tmp_path / "copy"


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

    def test_interrupted_run_goes_on_where_it_was(self, encode, encoded, monkeypatch):
        monkeypatch.setattr(embedllm.datasets.encoder, "_SLAB", 3)
        texts = [f"question {'very ' * length}long" for length in range(8)]
        run = embedllm.datasets.encoder._run

        def fail_in_slab_2(model, slab, *rest):
            if len(encoded) >= 3:
                raise KeyboardInterrupt
            return run(model, slab, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(embedllm.datasets.encoder, "_run", fail_in_slab_2)
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
            assert connection.execute("SELECT count(*) FROM vectors").fetchone() == (60,)
        connection.close()

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

    @pytest.mark.parametrize("content", [b"", b"not a database at all" * 100], ids=["empty", "garbage"])
    def test_file_that_is_no_database(self, encode, cache, content):
        encode(["a"])
        path = database(cache)
        path.write_bytes(content)
        if not content:  # which SQLite takes for a new database
            assert encode(["a"]).shape == (1, 384)
            return
        with pytest.raises(ValueError, match=rf"{path.name} is damaged .*: delete the file"):
            encode(["a"])

    def test_every_damage_is_found_or_without_effect(self, encode, cache, small_encoder, monkeypatch):
        encoder = find_encoder(small_encoder)

        def from_key(texts, *_):
            yield {key: np.frombuffer(key, dtype=np.uint8).astype(np.float16) for key in texts}

        monkeypatch.setattr(embedllm.datasets.encoder, "_encode", from_key)
        monkeypatch.setattr(embedllm.datasets.encoder, "find_encoder", lambda _: encoder)
        texts = [f"text {number}" for number in range(30)]
        vectors = encode(texts)
        path = database(cache)
        content = path.read_bytes()
        found = 0

        def check(damaged):
            path.write_bytes(damaged)
            try:
                np.testing.assert_array_equal(encode(texts), vectors)
            except (ValueError, OSError) as error:
                assert path.name in str(error) and "delete the file" in str(error)
                return 1
            return 0

        positions = [*range(0, 100, 3), *np.random.default_rng(0).integers(0, len(content), 1000)]
        for position in positions:
            found += check(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        assert found > 30
        assert sum(check(content[: int(kept * len(content))]) for kept in np.linspace(0.1, 0.9, 9)) > 5

    @pytest.mark.parametrize("error", [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), sqlite3.OperationalError("y")])
    def test_fault_of_the_encoder_is_not_blamed_on_it(self, encode, monkeypatch, error):
        def fail(*_):
            raise error

        monkeypatch.setattr(embedllm.datasets.encoder, "_run", fail)
        with pytest.raises(type(error)) as caught:
            encode(["a"])
        assert caught.value is error

    def test_fault_while_writing_names_it(self, encode, cache, monkeypatch):
        run = embedllm.datasets.encoder._run

        def drop(*arguments):
            with sqlite3.connect(database(cache)) as connection:
                connection.execute("DROP TABLE vectors")
            connection.close()
            return run(*arguments)

        monkeypatch.setattr(embedllm.datasets.encoder, "_run", drop)
        with pytest.raises(OSError, match=r"\.sqlite cannot be used \(no such table.*set EMBEDLLM_CACHE"):
            encode(["a"])

    def test_folder_that_cannot_be_one(self, encode, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("EMBEDLLM_CACHE", str(tmp_path / "file"))
        with pytest.raises(OSError, match="file"):
            encode(["a"])
        (tmp_path / "folder").mkdir()
        monkeypatch.setenv("EMBEDLLM_CACHE", str(tmp_path / "folder"))
        encode(["a"])
        path = database(tmp_path / "folder")
        path.unlink()
        path.mkdir()
        with pytest.raises(OSError, match=rf"{path.name} cannot be used .*set EMBEDLLM_CACHE"):
            encode(["a"])

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

    def test_vector_that_is_not_finite_is_refused_and_not_kept(self, encode, encoded, monkeypatch):
        run = embedllm.datasets.encoder._run
        with monkeypatch.context() as patch:
            patch.setattr(
                embedllm.datasets.encoder,
                "_run",
                lambda model, texts, *rest: run(model, texts, *rest) * [[np.inf]] * len(texts),
            )
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

    def test_pool_of_older_versions(self):
        class Older:
            def encode(self, texts, batch_size, show_progress_bar): ...

            def encode_multi_process(self, texts, pool, batch_size):
                return texts, pool, batch_size

        assert embedllm.datasets.encoder._run(Older(), ["a"], 4, {"processes": []}) == (["a"], {"processes": []}, 4)


class TestEncoder:
    def test_copy_is_equal(self, small_encoder, copied):
        assert find_encoder(copied) == find_encoder(small_encoder)
        assert find_encoder(copied).name != find_encoder(small_encoder).name

    def test_one_of_the_hub_is_equal(self, small_encoder, tmp_path, monkeypatch):
        import huggingface_hub
        from huggingface_hub.utils import filter_repo_objects

        def download(name, allow_patterns):
            assert name == DEFAULT_ENCODER
            names = [path.relative_to(small_encoder).as_posix() for path in small_encoder.rglob("*") if path.is_file()]
            for found in filter_repo_objects(names, allow_patterns=allow_patterns):
                (tmp_path / "hub" / found).parent.mkdir(parents=True, exist_ok=True)
                if not (tmp_path / "hub" / found).exists():
                    os.symlink(small_encoder / found, tmp_path / "hub" / found)  # as in the cache of the Hub
            return str(tmp_path / "hub")

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        found = find_encoder()
        assert found == find_encoder(small_encoder)
        assert found.name == DEFAULT_ENCODER
        assert not (tmp_path / "hub" / "README.md").exists()
        monkeypatch.setattr(embedllm.datasets.encoder, "_load", embedllm.datasets.encoder._load.__wrapped__)
        downloaded = encode_questions(["a"], device="cpu")
        monkeypatch.setenv("EMBEDLLM_CACHE", str(tmp_path / "other"))
        np.testing.assert_array_equal(downloaded, encode_questions(["a"], small_encoder, device="cpu"))

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("tokenizer.json", lambda text: text.replace('"hello"', '"hellooo"')),
            ("tokenizer_config.json", lambda text: text.replace('"do_lower_case": true', '"do_lower_case": false')),
            ("sentence_bert_config.json", lambda text: text.replace("256", "128")),
            ("config.json", lambda text: text.replace('"gelu"', '"relu"')),
            ("1_Pooling/config.json", lambda text: text.replace('cls_token": false', 'cls_token": true')),
            ("modules.json", lambda text: text.replace("Normalize", "Dropout")),
            ("config_sentence_transformers.json", lambda text: '{"default_prompt_name": "query"}'),
        ],
    )
    def test_change_that_matters_changes_it(self, small_encoder, copied, name, change):
        text = (copied / name).read_text(encoding="utf-8")
        assert change(text) != text
        (copied / name).write_text(change(text), encoding="utf-8")
        assert find_encoder(copied) != find_encoder(small_encoder)

    def test_weights_change_it_even_in_a_running_process(self, small_encoder, copied):
        before = find_encoder(copied)
        weights = copied / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.unlink()
        weights.write_bytes(content)
        assert find_encoder(copied) != before

    def test_what_cannot_matter_changes_nothing(self, small_encoder, copied):
        (copied / "README.md").write_text("other words")
        (copied / "data_config.json").unlink()
        (copied / "vocab.txt").unlink()  # also in tokenizer.json
        (copied / ".gitattributes").unlink()
        (copied / "onnx").mkdir()
        (copied / "onnx" / "model.onnx").write_bytes(b"x")
        (copied / "pytorch_model.bin").write_bytes(b"x")
        config = json.loads((copied / "config.json").read_text())
        config = {"transformers_version": "9", **dict(reversed(config.items())), "_name_or_path": "/somewhere"}
        (copied / "config.json").write_text(json.dumps(config, indent=7).replace("\n", "\r\n"), newline="")
        versions = {"__version__": {"sentence_transformers": "9"}}
        (copied / "config_sentence_transformers.json").write_text(json.dumps(versions))
        assert find_encoder(copied) == find_encoder(small_encoder)

    def test_vectors_of_an_equal_one_are_found_in_the_cache(self, encode, encoded, copied):
        vectors = encode(TEXTS)
        np.testing.assert_array_equal(encode_questions(TEXTS, copied), vectors)
        assert len(encoded) == len(TEXTS)

    def test_folder_without_a_model(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(ValueError, match=r"empty holds no sentence-transformers model.*modules\.json"):
            find_encoder(tmp_path / "empty")

    @pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[{"path": ""}]', b"\xff", b"7"])
    def test_damaged_list_of_modules(self, copied, content):
        (copied / "modules.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"modules\.json is damaged"):
            find_encoder(copied)

    def test_damaged_configuration(self, copied):
        (copied / "config.json").write_text("{")
        with pytest.raises(ValueError, match=r"config\.json is damaged"):
            find_encoder(copied)

    def test_pickled_weights_are_refused(self, copied):
        (copied / "model.safetensors").unlink()
        with pytest.raises(ValueError, match="holds no weights of an encoder"):
            find_encoder(copied)
        (copied / "pytorch_model.bin").write_bytes(b"x")
        with pytest.raises(ValueError, match=r"pytorch_model\.bin holds pickled weights, which are never loaded"):
            find_encoder(copied)

    def test_pickled_weights_of_a_module_are_refused(self, copied):
        (copied / "1_Pooling" / "pytorch_model.bin").write_bytes(b"x")
        with pytest.raises(ValueError, match=r"1_Pooling/pytorch_model\.bin holds pickled weights"):
            find_encoder(copied)

    def test_foreign_code_is_refused(self, copied):
        modules = json.loads((copied / "modules.json").read_text())
        modules[1]["type"] = "custom_pooling.Pooling"
        (copied / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(ValueError, match=r"needs code of its own \(custom_pooling\.Pooling\)"):
            find_encoder(copied)

    @pytest.mark.parametrize("name", ["/no/such/folder", "../nowhere", "a/b/c", "spaces in it", ""])
    def test_neither_folder_nor_id(self, name, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(FileNotFoundError, match="neither a folder nor a Hub id"):
            find_encoder(name)

    def test_offline_without_the_encoder(self, tmp_path):
        code = "from embedllm import encode_questions; encode_questions(['a'])"
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        last = run.stderr.splitlines()[-1]
        assert last.startswith(f"ConnectionError: the encoder '{DEFAULT_ENCODER}' is neither a folder")
        assert "HF_ENDPOINT" in last and "local folder" in last


def test_path_of_an_encoder_may_be_text_or_relative(encode, small_encoder, monkeypatch):
    monkeypatch.chdir(small_encoder.parent)
    vectors = encode(["a"])
    np.testing.assert_array_equal(encode_questions(["a"], "model"), vectors)
    np.testing.assert_array_equal(encode_questions(["a"], Path("model")), vectors)
