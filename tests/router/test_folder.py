"""Folders of routers: they hold a whole router or refuse to load; and the stack that a router has by default."""

import hashlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from fits import SUMS, TOWNS, contents, exact, random_factorization

from embedllm import ModelMean, Router, StackedCorrectness, encode_questions
from embedllm.datasets.encoder import find_encoder
from embedllm.predictors.familiarity import Familiarity
from embedllm.predictors.router_files import checksum, familiarity_to_bytes


@pytest.fixture(scope="module")
def stacked(matrix, small_encoder):
    """What a router is by default."""
    router = Router.fit(matrix, encoder=small_encoder, device="cpu")
    router.predictor.weights_[:] = [0.5, 0.25, 0.75]  # so that each part counts
    return router


def narrow(_):
    """The training questions of a router whose encoder is narrower."""
    return familiarity_to_bytes(Familiarity.learn(np.eye(3)))


class TestFolder:
    def test_round_trip(self, router, tmp_path):
        router.save(tmp_path / "deep" / "router")
        loaded = Router.load(tmp_path / "deep" / "router", device="cpu")
        texts = SUMS[:3] + TOWNS[:3]
        pd.testing.assert_frame_equal(loaded.route(texts), router.route(texts), check_exact=True)
        assert loaded.encoder == router.encoder
        assert loaded.device == "cpu"

    def test_same_router_gives_the_same_files(self, router, tmp_path):
        for name in ("one", "two"):
            router.save(tmp_path / name)
        assert contents(tmp_path / "one") == contents(tmp_path / "two")

    def test_saving_again_replaces(self, router, small_encoder, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        (tmp_path / "factorization-mine.safetensors").write_text("mine")
        other = Router(random_factorization(["a", "b"]), small_encoder, "cpu")
        for saved in (router, router, other, router, other):
            saved.save(tmp_path)
        assert list(Router.load(tmp_path).factorization.model_names_) == ["a", "b"]
        files = contents(tmp_path)
        assert files.pop("notes.txt") == files.pop("factorization-mine.safetensors") == b"mine"
        other.save(tmp_path / "fresh")
        assert files == contents(tmp_path / "fresh")

    @pytest.mark.parametrize("failing", ["write_bytes", "write_text", "replace", "second replace", "unlink"])
    def test_interrupted_save_leaves_a_whole_router(self, router, small_encoder, tmp_path, monkeypatch, failing):
        router.save(tmp_path)
        names, countdown = [list(router.factorization.model_names_), ["a", "b"]], [failing.startswith("second")]
        method = failing.split()[-1]
        original = getattr(type(tmp_path), method)

        def fail(self, *arguments, **settings):
            if method == "unlink" and self.suffix != ".safetensors":
                return original(self, *arguments, **settings)
            if countdown[0]:
                countdown[0] = False
                return original(self, *arguments, **settings)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(type(tmp_path), method, fail)
            Router(random_factorization(["a", "b"]), small_encoder, "cpu").save(tmp_path)
        assert list(Router.load(tmp_path).factorization.model_names_) == names[method == "unlink"]
        router.save(tmp_path)
        assert list(Router.load(tmp_path).factorization.model_names_) == names[0]

    def test_damaged_router_can_be_saved_over(self, router, tmp_path):
        (tmp_path / "router.json").write_text("{")
        router.save(tmp_path)
        Router.load(tmp_path)

    def test_folder_without_a_router(self, tmp_path):
        for folder in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(FileNotFoundError, match=f"there is no router in {folder}"):
                Router.load(folder)

    def test_missing_weights_are_named(self, router, tmp_path):
        router.save(tmp_path)
        next(tmp_path.glob("factorization-*")).unlink()
        with pytest.raises(FileNotFoundError, match=rf"{tmp_path} lacks its file factorization-.*\.safetensors"):
            Router.load(tmp_path)

    def test_file_in_the_place_of_the_folder(self, router, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(FileExistsError, match="file"):
            router.save(tmp_path / "file")

    def test_newer_format(self, router, tmp_path):
        router.save(tmp_path)
        describe_anew(tmp_path, lambda description: description.update(format=4))
        with pytest.raises(ValueError, match=r"router\.json has format 4, and this version reads 3: update embedllm"):
            Router.load(tmp_path)

    @pytest.mark.parametrize(
        ("part", "key"),
        [("encoder", None), ("weights", None), ("encoder", "name"), ("encoder", "fingerprint"), ("weights", "sha256")],
    )
    def test_description_without_a_part(self, router, tmp_path, part, key):
        router.save(tmp_path)
        describe_anew(tmp_path, lambda description: (description[part] if key else description).pop(key or part))
        with pytest.raises(ValueError, match=r"router\.json lacks a part that Router\.save writes"):
            Router.load(tmp_path)
        describe_anew(tmp_path, lambda description: description.update({part: [1] if key is None else {key: 1}}))
        with pytest.raises(ValueError, match=r"router\.json lacks a part"):
            Router.load(tmp_path)

    @pytest.mark.parametrize(
        "name", ["../mine.safetensors", "mine.safetensors", "factorization-1.safetensors", "", 7, None], ids=repr
    )
    def test_weights_outside_the_folder_are_neither_read_nor_deleted(self, router, tmp_path, name):
        router.save(tmp_path / "router")
        (tmp_path / "mine.safetensors").write_bytes(router.factorization.to_bytes())
        describe_anew(tmp_path / "router", lambda description: description["weights"].update(name=name))
        with pytest.raises(ValueError, match=r"router\.json holds an entry that Router\.save never writes"):
            Router.load(tmp_path / "router")
        router.save(tmp_path / "router")
        Router.load(tmp_path / "router")
        assert (tmp_path / "mine.safetensors").exists()

    def test_entry_that_an_earlier_version_wrote_is_no_obstacle(self, router, tmp_path):
        router.save(tmp_path)
        describe_anew(tmp_path, lambda description: description.update(width=384))
        Router.load(tmp_path)


class TestEncoderOfAFolder:
    @pytest.fixture
    def other(self, small_encoder, tmp_path):
        """A copy of the encoder that cuts texts earlier, and so is another one."""
        shutil.copytree(small_encoder, tmp_path / "other")
        (tmp_path / "other" / "sentence_bert_config.json").write_text('{"max_seq_length": 64}')
        return tmp_path / "other"

    def test_another_one_is_refused_with_both_names_and_fingerprints(self, router, other, tmp_path):
        router.save(tmp_path / "router")
        with pytest.raises(ValueError, match="was fitted with the encoder") as caught:
            Router.load(tmp_path / "router", encoder=other)
        for encoder in (router.encoder, find_encoder(other)):
            assert encoder.name in str(caught.value)
            assert encoder.fingerprint in str(caught.value)

    def test_one_that_changed_since_is_refused(self, router, other, small_encoder, tmp_path):
        moved = Router(router.factorization, other, "cpu")
        moved.save(tmp_path / "router")
        Router.load(tmp_path / "router")
        shutil.copy(small_encoder / "sentence_bert_config.json", other)
        with pytest.raises(ValueError, match="is another one"):
            Router.load(tmp_path / "router")

    def test_equal_one_elsewhere_is_taken(self, router, small_encoder, tmp_path):
        shutil.copytree(small_encoder, tmp_path / "elsewhere")
        Router(router.factorization, tmp_path / "elsewhere", "cpu").save(tmp_path / "router")
        shutil.rmtree(tmp_path / "elsewhere")
        with pytest.raises(
            FileNotFoundError, match=r"elsewhere, which is not on .*: pass encoder=.*--encoder"
        ) as caught:
            Router.load(tmp_path / "router")
        assert str(tmp_path / "router") in str(caught.value)
        with pytest.raises(FileNotFoundError, match=r"no encoder '/nowhere': it is neither a folder nor a Hub id"):
            Router.load(tmp_path / "router", encoder="/nowhere")
        loaded = Router.load(tmp_path / "router", encoder=small_encoder, device="cpu")
        pd.testing.assert_frame_equal(loaded.route(SUMS[:2]), router.route(SUMS[:2]), check_exact=True)


class TestTrainingQuestions:
    """What tells unfamiliar questions is a part that a router may have."""

    def test_is_kept(self, router, tmp_path):
        router.save(tmp_path)
        loaded = Router.load(tmp_path, device="cpu").familiarity
        assert loaded.reference.tobytes() == router.familiarity.reference.tobytes()
        assert loaded.limit == router.familiarity.limit

    def test_router_of_an_earlier_version_has_none(self, router, tmp_path):
        router.save(tmp_path)
        describe_anew(tmp_path, lambda description: description.pop("training"))
        next(tmp_path.glob("training-*")).unlink()
        loaded = Router.load(tmp_path, device="cpu")
        assert loaded.familiarity is None
        columns = [name for name in loaded.route(SUMS) if name != "unfamiliar"]
        pd.testing.assert_frame_equal(loaded.route(SUMS)[columns], router.route(SUMS)[columns], check_exact=True)
        assert not loaded.route(["Ode to the moon"])["unfamiliar"].any()

    @pytest.mark.parametrize("damage", [lambda content: content[:-1] + b"x", lambda content: content[:50]])
    def test_damaged_file_is_named(self, router, tmp_path, damage):
        router.save(tmp_path)
        path = next(tmp_path.glob("training-*"))
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(ValueError, match=r"training-.* is damaged: save or fetch the router again"):
            Router.load(tmp_path)
        path.unlink()
        with pytest.raises(FileNotFoundError, match="lacks its file training-"):
            Router.load(tmp_path)

    @pytest.mark.parametrize("change", [lambda content: content[:-9], narrow], ids=["cut", "of another width"])
    def test_training_questions_that_do_not_fit_are_named(self, router, tmp_path, change):
        router.save(tmp_path)
        path = next(tmp_path.glob("training-*"))
        content = change(path.read_bytes())
        sha256 = hashlib.sha256(content).hexdigest()
        path.with_name(f"training-{sha256}.safetensors").write_bytes(content)
        entry = {"name": f"training-{sha256}.safetensors", "sha256": sha256}
        describe_anew(tmp_path, lambda description: description.update(training=entry))
        with pytest.raises(ValueError, match=r"training-.* is not a sample of training questions written by"):
            Router.load(tmp_path)


class TestStack:
    def test_is_the_default(self, stacked):
        assert isinstance(stacked.predictor, StackedCorrectness)

    def test_routes_by_what_the_stack_predicts(self, stacked, small_encoder):
        texts = SUMS[:4] + TOWNS[:4] + ["something else"]
        predicted = stacked.predictor.predict_proba(encode_questions(texts, small_encoder, device="cpu"))
        routes = stacked.route(texts)
        np.testing.assert_allclose(routes["probability"], predicted.max(axis=1), atol=1e-6)
        assert routes["model"].tolist() == stacked.model_names[predicted.argmax(axis=1)].tolist()

    def test_question_gets_the_same_answer_alone_and_among_others(self, stacked):
        alone = pd.concat([stacked.route([text]) for text in SUMS + TOWNS], ignore_index=True)
        pd.testing.assert_frame_equal(alone, stacked.route(SUMS + TOWNS), check_exact=True)

    def test_order_of_the_models_changes_nothing(self, matrix, small_encoder):
        shuffled = matrix.subset(models=["nothing", "sums", "capitals"])
        routes = [
            Router.fit(each, encoder=small_encoder, device="cpu").route(SUMS + TOWNS) for each in (matrix, shuffled)
        ]
        pd.testing.assert_frame_equal(*routes, check_exact=True)

    @pytest.mark.parametrize("weights", [[0.5, 0.25, 0.75], [0.5, 0, 0.75], [0, 0.25, 0], [0, 0, 0]], ids=str)
    def test_round_trip_keeps_what_is_needed(self, stacked, tmp_path, weights):
        stacked.predictor.weights_[:] = weights
        stacked.save(tmp_path)
        loaded = Router.load(tmp_path, device="cpu")
        pd.testing.assert_frame_equal(loaded.route(SUMS + TOWNS), stacked.route(SUMS + TOWNS), check_exact=True)
        assert loaded.predictor.summary() == stacked.predictor.summary()
        loaded.save(tmp_path / "again")
        assert contents(tmp_path / "again") == contents(tmp_path)
        stacked.predictor.weights_[:] = [0.5, 0.25, 0.75]

    def test_saved_over_one_of_another_kind(self, stacked, router, tmp_path):
        for saved in (router, stacked, router):
            saved.save(tmp_path)
            assert len(contents(tmp_path)) == (4 if saved is stacked else 3)

    def test_new_model_is_placed_by_the_factorization(self, stacked, small_encoder, tmp_path):
        both = {text: True for text in SUMS[::2] + TOWNS[::2]}
        grown, plain = (
            Router(each, small_encoder, "cpu").add_model("both", both)
            for each in (stacked.predictor, stacked.factorization)
        )
        for name in ("weights", "spread"):
            np.testing.assert_array_equal(*(getattr(each.new_models["both"], name) for each in (grown, plain)))
        grown.save(tmp_path)
        pd.testing.assert_frame_equal(Router.load(tmp_path).route(SUMS), grown.route(SUMS), check_exact=True)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda models: {"sums": models["new"]}, "a name of its models is no text, or taken"),
            (lambda models: {"new": models["new"]._replace(weights=models["new"].weights[1:])}, "not for embeddings"),
            (lambda models: {"new": models["new"]._replace(weights=np.nan * models["new"].weights)}, "not finite"),
        ],
        ids=["name", "width", "numbers"],
    )
    def test_new_models_that_do_not_fit_are_refused(self, matrix, small_encoder, tmp_path, change, message):
        router = Router.fit(matrix, exact(), encoder=small_encoder, device="cpu").add_model("new", {SUMS[0]: True})
        router.new_models = change(router.new_models)
        router.save(tmp_path)
        with pytest.raises(ValueError, match=f"is not a file of new models written by Router.save: .*{message}"):
            Router.load(tmp_path)

    def test_damaged_file_is_named(self, stacked, tmp_path):
        stacked.save(tmp_path)
        path = next(tmp_path.glob("stack-*"))
        content = path.read_bytes()[:-9]
        sha256 = hashlib.sha256(content).hexdigest()
        (tmp_path / f"stack-{sha256}.safetensors").write_bytes(content)
        entry = {"name": f"stack-{sha256}.safetensors", "sha256": sha256}
        describe_anew(tmp_path, lambda description: description.update(stack=entry))
        with pytest.raises(ValueError, match=r"stack-.* is not a stack written by Router\.save"):
            Router.load(tmp_path)

    def test_predictor_of_the_reader_routes_but_cannot_be_saved(self, matrix, small_encoder, tmp_path):
        router = Router.fit(matrix, ModelMean(), encoder=small_encoder, device="cpu")
        assert set(router.route(SUMS)["model"]) == {"sums"}
        with pytest.raises(TypeError, match="a router of ModelMean cannot be saved: fit a MatrixFactorization"):
            router.save(tmp_path / "r")
        with pytest.raises(AttributeError, match="no matrix factorization in the ModelMean of this router"):
            router.add_model("new", {SUMS[0]: 1})
        other = StackedCorrectness({"mean": ModelMean(), "MF": exact()}).fit(matrix)
        other.weights_[:] = 0.5
        with pytest.raises(TypeError, match="a stack with the part 'mean', a ModelMean, cannot be saved"):
            Router(other, small_encoder).save(tmp_path / "r")
        assert not (tmp_path / "r").exists()


def describe_anew(folder, change):
    """Change a router's description, and make the checksum fit."""
    path = folder / "router.json"
    description = json.loads(path.read_text())
    del description["sha256"]
    change(description)
    path.write_text(json.dumps(description | {"sha256": checksum(description)}))
