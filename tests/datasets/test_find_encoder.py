"""An encoder is known by what determines its vectors: weights, configuration and vocabulary."""

import errno
import json
import os
import shutil
import subprocess
import sys
from unittest.mock import Mock

import numpy as np
import pytest

import embedllm.datasets.encoder
from embedllm import encode_questions
from embedllm.datasets.encoder import DEFAULT_ENCODER, find_encoder


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
        # A sum may round up to the next float16 where the weights lie elsewhere in memory.
        np.testing.assert_allclose(downloaded, encode_questions(["a"], small_encoder, device="cpu"), atol=2**-13)

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

    def test_full_disk_is_no_fault_of_the_network(self, monkeypatch):
        full = OSError(errno.ENOSPC, "No space left on device")
        monkeypatch.setattr("huggingface_hub.snapshot_download", Mock(side_effect=full))
        with pytest.raises(OSError, match="No space left"):
            find_encoder()

    def test_offline_without_the_encoder(self, tmp_path):
        code = "from embedllm import encode_questions; encode_questions(['a'])"
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        last = run.stderr.splitlines()[-1]
        assert last.startswith(f"ConnectionError: the encoder '{DEFAULT_ENCODER}' is neither on this machine")
        assert "HF_ENDPOINT" in last and "local folder" in last
