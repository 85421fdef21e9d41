"""Routers on a look-alike of the Hub: what is published, and what is downloaded again on another machine."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from fits import SUMS, TOWNS, exact, sums_and_capitals
from hub_lookalike import serve

from embedllm import Router
from embedllm.datasets.encoder import Encoder
from embedllm.predictors.router_hub import model_card, publish

ENCODER, NAME = "some/encoder", "me/router"
PUBLISH = f"""
from embedllm import Router
router = Router.load("router", encoder="{ENCODER}", device="cpu")
print(router.push_to_hub("{NAME}", licence="mit", data="28 questions, made up.", scores={{"accuracy": 0.75}}))
"""
USE = f"""
import json
from embedllm import Router
router = Router.from_pretrained("{NAME}", device="cpu")
print(router.route(json.loads(open("questions.json").read())).to_json())
"""


@pytest.fixture(scope="module")
def stacked(small_encoder):
    """A router of a stack, with a new model and familiar questions: each part that one can have."""
    router = Router.fit(sums_and_capitals(small_encoder), encoder=small_encoder, device="cpu")
    return router.add_model("new", {SUMS[0]: True, TOWNS[0]: True})


@pytest.fixture
def hub(small_encoder, tmp_path):
    with serve({ENCODER: small_encoder}, "1" * 40, uploads=tmp_path / "uploads") as hub:
        yield hub


def run(hub, folder, code, home="home", **more):
    # The client reads its settings when it is imported, so each use is a process of its own.
    settings = {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(folder / home),
        "HF_TOKEN": "hf_secret",
        "OMP_NUM_THREADS": "1",
    }
    settings |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "EMBEDLLM_CACHE": str(folder / home)}
    inherited = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    inherited.pop("HF_HUB_OFFLINE", None)
    command, environment = [sys.executable, "-c", code], inherited | settings | more
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)


def test_published_router_gives_the_same_routes_elsewhere(stacked, hub, tmp_path):
    stacked.save(tmp_path / "router")
    published = run(hub, tmp_path, PUBLISH)
    assert published.returncode == 0, published.stderr
    assert published.stdout.strip() == f"{hub.address}/{NAME}"
    assert hub.commits == [["file"] * 2 + ["lfsFile"] * 4]  # one commit; the card and router.json, and four parts
    files = {path.suffix for path in hub.folders[NAME].iterdir()}
    assert files == {".json", ".md", ".safetensors"}

    (hub.folders[NAME] / "pytorch_model.bin").write_bytes(b"\x80\x04")  # is neither downloaded nor loaded
    questions = SUMS[:3] + TOWNS[:3] + ["Why?"]
    (tmp_path / "questions.json").write_text(json.dumps(questions))
    used = run(hub, tmp_path, USE, home="another", HF_TOKEN="")
    assert used.returncode == 0, used.stderr
    routes = pd.DataFrame(json.loads(used.stdout))
    assert routes["model"].tolist() == stacked.route(questions)["model"].tolist()
    assert routes["probability"].tolist() == pytest.approx(stacked.route(questions)["probability"].tolist(), abs=1e-5)
    assert not [path for _, path in hub.requests if path.endswith("pytorch_model.bin")]
    # Once downloaded, no network is needed.
    assert run(hub, tmp_path, USE, home="another", HF_HUB_OFFLINE="1").stdout == used.stdout


def test_publishing_again_leaves_no_file_of_the_older_router(stacked, small_encoder, hub, tmp_path):
    stacked.save(tmp_path / "router")
    assert run(hub, tmp_path, PUBLISH).returncode == 0
    Router.fit(sums_and_capitals(small_encoder), exact(), encoder=small_encoder, device="cpu").save(tmp_path / "router")
    assert run(hub, tmp_path, PUBLISH).returncode == 0
    assert len(hub.commits) == 2
    assert {path.name for path in hub.folders[NAME].iterdir()} == {
        "README.md",
        *(path.name for path in (tmp_path / "router").iterdir()),
    }


@pytest.mark.parametrize(
    ("token", "address", "message"),
    [
        (
            "hf_other",
            None,
            f"the router could not be published as {NAME}: log in by `hf auth login`",
        ),
        ("hf_secret", "http://127.0.0.1:9", f"the router could not be published as {NAME}"),
    ],
    ids=["refused", "not reached"],
)
def test_hub_that_refuses_or_is_not_reached(stacked, hub, tmp_path, token, address, message):
    stacked.save(tmp_path / "router")
    assert run(hub, tmp_path, f"from embedllm import Router\nRouter.load('router', '{ENCODER}')").returncode == 0
    failed = run(hub, tmp_path, PUBLISH, HF_TOKEN=token, **({"HF_ENDPOINT": address} if address else {}))
    assert failed.stderr.strip().splitlines()[-1].startswith(f"ConnectionError: {message}")
    assert NAME not in hub.folders


def test_router_that_is_not_there(hub, tmp_path):
    failed = run(hub, tmp_path, USE)
    assert (
        failed.stderr.strip()
        .splitlines()[-1]
        .startswith(f"ConnectionError: the router {NAME} is neither on this machine nor could it be downloaded")
    )


def test_local_encoder_is_refused(stacked):
    with pytest.raises(ValueError, match=r"the encoder of this router is the folder .*load it with the Hub id"):
        stacked.push_to_hub(NAME, licence="mit", data="28 questions")


@pytest.mark.parametrize("name", ["router", "", "me/my router", "a/b/c"])
def test_name_without_an_owner_is_refused(name):
    for ask in (lambda: publish(name, lambda folder: None, "card"), lambda: Router.from_pretrained(name)):
        with pytest.raises(ValueError, match="no name of a repository on the Hub: pass it as 'owner/name'"):
            ask()


@pytest.mark.parametrize("value", [None, "0.7", float("nan")])
def test_score_has_to_be_a_number(stacked, value):
    with pytest.raises(ValueError, match=r"the score 'accuracy' is .*, which is no number: leave it out"):
        card_of(stacked, "mit", "28 questions", {"accuracy": value})


@pytest.mark.parametrize(("licence", "data"), [("", "28 questions"), ("mit", " ")])
def test_licence_and_data_have_to_be_stated(stacked, licence, data):
    with pytest.raises(ValueError, match="have to be stated: pass licence and data"):
        stacked.push_to_hub(NAME, licence=licence, data=data)


def card_of(router, licence, data, scores):
    encoder = Encoder(ENCODER, router.encoder.folder, router.encoder.fingerprint)
    return model_card(NAME, router.model_names, encoder, router.predictor, licence, data, scores)


def test_card_states_data_encoder_scores_licence_and_limits(stacked):
    card = card_of(stacked, "cc-by-4.0", "28 questions, made up.", {"accuracy": 0.71234})
    _, head, text = card.split("---\n", 2)
    assert yaml.safe_load(head) == {"license": "cc-by-4.0", "library_name": "embedllm", "tags": ["llm-routing"]}
    assert f'Router.from_pretrained("{NAME}")' in text
    assert "## Data\n\n28 questions, made up.\n" in text
    assert stacked.encoder.fingerprint in text
    assert "- `accuracy`: 0.7123\n- By cross-validation on its data: weights of the logits:" in text
    assert [f"- `{name}`" in text for name in stacked.model_names] == [True] * 4
    assert "## Limits" in text


def test_names_are_no_markup(stacked):
    card = card_of(stacked, "mit", "28 questions", {"a`b\n# c": 1.0})
    assert "\n- `` a`b # c ``: 1\n" in card
