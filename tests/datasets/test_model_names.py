"""Sizes and specializations are what the names of models say."""

import numpy as np
import pandas as pd
import pytest

from embedllm.datasets.model_names import describe_models
from embedllm.datasets.simulate import simulate_pool


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("org__Yi-34B-Chat", 34),
        ("org/Yi-34b", 34),
        ("deepseek-coder-1.3b-base", 1.3),
        ("bloom-7b1", 7.1),
        ("Moe-4x7b-math", 28),
        ("MixTAO-7Bx2-MoE-v8.1", 14),
        ("Mixtral_11Bx2_MoE_19B", 19),
        ("Mixtral-8x7B-Instruct-v0.1", 56),
        ("pythia-12b-epoch-3.5", 12),
        ("70B-org__model", np.nan),
        ("phi-1_5", np.nan),
        ("vicuna-v1.5-16k", np.nan),
        ("gpt-4o", np.nan),
        ("abc7bcd", np.nan),
        ("", np.nan),
    ],
)
def test_size(name, size):
    assert describe_models([name])["params_b"].item() == pytest.approx(size, nan_ok=True)


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("FelixChao__vicuna-7B-physics", "chat;physics"),
        ("Neko-Institute-of-Science__plain", ""),
        ("BioMistral__plain", "biomed"),
        ("org__palmyra-med-20b", "biomed"),
        ("org__medium-7b", ""),
        ("org__alpaca-dragon-72b", ""),
        ("org__Self-RAG-32k", "long_context;rag"),
        ("org__vicuna-16k", "chat"),
        ("org__Llama-Guard-2", "safety"),
        ("org__CodeLlama-70B-Instruct-AWQ", "chat;code;quantized"),
        ("org__firebase-7b", ""),
        ("chatgpt-4o-latest", "chat;closed"),
        ("o1-preview", "closed;reasoning"),
        ("nomic-ai__gpt4all-13b-snoozy", ""),
    ],
)
def test_tags(name, tags):
    assert describe_models([name])["tags"].item() == tags


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("c4ai-command-r-v01", "command-r"),
        ("Meta-Llama-3_1-8B", "llama"),
        ("mathstral-7B", "mistral"),
        ("reka-flash-20240226", "reka"),
        ("flash", "gemini"),
        ("gpt4o(2024-05-13)", "gpt"),
        ("o1-mini-2024-09-12", "gpt"),
        ("nomic-ai__gpt4all-13b-snoozy", ""),
        ("Yi-6b-Chat", "yi"),
        ("Yi-org__model", ""),
    ],
)
def test_family(name, family):
    assert describe_models([name])["family"].item() == family


@pytest.mark.parametrize("pool", ["mmlu_pro", "zeroeval"])
def test_sizes_and_families_of_real_pools(pool_folder, pool):
    """The rules give what was written down by hand for each model."""
    known = pd.read_csv(pool_folder(pool) / "model_order.csv", index_col="model_name", keep_default_na=False)
    described = describe_models(known.index)
    assert described["family"].tolist() == known["family"].tolist()
    np.testing.assert_array_equal(described["params_b"], pd.to_numeric(known["params_b"]))


def test_simulated_names_state_the_ground_truth():
    models = simulate_pool(scale=0.01)[0].models
    described = describe_models(models.index)[["params_b", "tags"]]
    pd.testing.assert_frame_equal(described, models[["params_b", "tags"]], check_dtype=False)


def test_names_of_the_release(pool_folder):
    """An independent list agrees, except that it tags a dragon as retrieval-augmented generation (RAG)."""
    listed = pd.read_csv(pool_folder("embedllm_release") / "models.csv", keep_default_na=False).set_index("model_name")
    described = describe_models(listed.index)
    in_name = listed["params_from_name"] == "yes"
    assert len(listed) == 112
    assert described.loc[in_name, "params_b"].tolist() == listed.loc[in_name, "params_b"].astype(float).tolist()
    assert described.loc[~in_name, "params_b"].isna().all()
    other_names = {"chat": "chat_instruct", "physics": "science", "chemistry": "science"}
    differ = [
        name
        for name, tags in described["tags"].items()
        if {other_names.get(tag, tag) for tag in tags.split(";")} != set(listed.at[name, "tags"].split(";"))
    ]
    assert differ == ["ibivibiv__alpaca-dragon-72b-v1"]


def test_sizes_of_zeroeval(zeroeval):
    described = describe_models(zeroeval.model_names)
    np.testing.assert_array_equal(described["params_b"], zeroeval.models["params_b"])
