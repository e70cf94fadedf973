"""keras-hub, unmodified: backbones predict, classifiers train and language models generate, compiled."""

import numpy as np
import pytest

pytest.importorskip("keras_hub", reason="keras-hub is not installed")

import hub_backbones
import hub_generate
import keras
import keras_hub
from compare_with_torch import compare, failure
from hub_models import CAUSAL, TEXT, VOCABULARY, backbone, classifier, inputs, prompt
from hub_models import language_model as language_model_of

import keras_triton

# How many launches of the predict step torch may run for want of a kernel: the experts' top-k.
FALLBACKS = {
    "Bert": 0,
    "DistilBert": 0,
    "Roberta": 0,
    "GPT2": 0,
    "Gemma": 0,
    "Llama": 0,
    "Mistral": 0,
    "Mixtral": 2,
    "Phi3": 0,
    "Qwen": 0,
    "Qwen3": 0,
    "T5": 0,
    "DenseNet": 0,
    "ResNet": 0,
    "ViT": 0,
    "Whisper": 0,
}
GENERATED = ("GPT2", "Gemma", "Llama")
# Losses of runs whose sums are taken in another order.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def backbones():
    return compare("hub_backbones", list(FALLBACKS))


@pytest.mark.parametrize("name", FALLBACKS)
def test_backbone_predicts_as_torch(backbones, name):
    row = backbones[name]
    assert failure(row, hub_backbones.TOLERANCE) == ""
    assert sum(row["fallbacks"].values()) <= FALLBACKS[name], row["fallbacks"]


@pytest.fixture(scope="module")
def generated():
    return compare("hub_generate", list(GENERATED))


@pytest.mark.parametrize("name", GENERATED)
def test_greedy_tokens_are_those_of_torch(generated, name):
    """Two prompts of one shape: captured once, with the loop over tokens inside."""
    row = generated[name]
    assert failure(row, hub_generate.TOLERANCE) == ""
    assert row["calls"] == {"captures": 1, "compiled": 2, "op_by_op": 0}
    assert not row["fallbacks"]


SAMPLERS = {
    "top_k": lambda: keras_hub.samplers.TopKSampler(k=5, seed=3),
    "top_p": lambda: keras_hub.samplers.TopPSampler(p=0.5, seed=3),
    "random": lambda: keras_hub.samplers.RandomSampler(seed=3),
    "beam": lambda: keras_hub.samplers.BeamSampler(num_beams=3),
    "contrastive": lambda: keras_hub.samplers.ContrastiveSampler(k=3),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampled_tokens_are_those_of_the_same_seed_op_by_op(name, recwarn):
    stop_ids = [4, 7]
    models = [
        language_model_of("GPT2", SAMPLERS[name](), run_eagerly=eager) for eager in (False, True)
    ]
    for seed in range(2):
        compiled, eager = (
            model.generate(prompt(seed), stop_token_ids=stop_ids) for model in models
        )
        np.testing.assert_array_equal(compiled["token_ids"], eager["token_ids"])
        np.testing.assert_array_equal(compiled["padding_mask"], eager["padding_mask"])
    assert counts(models[0].generate_function) == (1, 2, 0)
    assert not ours(recwarn)


def test_generation_stops_and_strips():
    """A stop token ends the loop, so what follows in the prompt's padding stays."""
    model = language_model_of("GPT2", "greedy")
    free = model.generate(prompt(), stop_token_ids=None)["token_ids"]
    stop = int(free[0, 4])
    stopped = model.generate(prompt(), stop_token_ids=[stop])
    assert stopped["padding_mask"][0].tolist() == [True] * 5 + [False] * 5


def test_another_length_is_another_program():
    model = language_model_of("GPT2", "greedy")
    long = prompt()
    short = {name: value[:, :7] for name, value in long.items()}
    tokens = [model.generate(x, stop_token_ids=None)["token_ids"] for x in (long, short, long)]
    np.testing.assert_array_equal(tokens[0][:, :7], tokens[1])
    np.testing.assert_array_equal(tokens[0], tokens[2])
    assert counts(model.generate_function) == (2, 3, 0)


def test_generate_op_by_op_on_request():
    model = language_model_of("GPT2", "greedy", jit_compile=False)
    tokens = model.generate(prompt(), stop_token_ids=None)["token_ids"]
    assert tokens.shape == (2, 10)
    assert not hasattr(model.generate_function, "step")


@pytest.mark.parametrize("name", ["Bert", "DistilBert", "Roberta", "DenseNet", "ResNet", "ViT"])
def test_classifier_trains(name, recwarn):
    """Losses and weights of two epochs equal those of the same steps op by op."""
    models = [seeded_classifier(name, run_eagerly=eager) for eager in (False, True)]
    x = inputs(models[0].backbone)
    x = {key: np.tile(value, (2, 1)) for key, value in x.items()} if name in TEXT else repeated(x)
    y = np.array([0, 1, 2, 0])
    histories = [
        model.fit(x, y, batch_size=2, epochs=2, shuffle=False, verbose=0).history["loss"]
        for model in models
    ]
    np.testing.assert_allclose(*histories, rtol=TOLERANCE)
    assert counts(models[0].train_function) == (1, 4, 0)
    assert "captured graph" not in keras_triton.stats().reports[-1].rows[0].how
    assert not ours(recwarn)


def test_language_model_trains_with_lora():
    body = backbone("Gemma")
    body.enable_lora(2)
    model = keras_hub.models.GemmaCausalLM(backbone=body, preprocessor=None)
    model.compile(optimizer="adam")
    x = prompt()
    targets = np.roll(x["token_ids"], -1, 1)
    frozen = body.token_embedding.get_weights()[0]
    model.fit(x, targets, sample_weight=x["padding_mask"], batch_size=2, epochs=2, verbose=0)
    assert counts(model.train_function) == (1, 2, 0)
    assert len(model.trainable_variables) < len(model.weights)
    np.testing.assert_array_equal(body.token_embedding.get_weights()[0], frozen)


def test_quantized_model_generates():
    model = language_model_of("Llama", "greedy")
    model.quantize("int8")
    model.compile(sampler="greedy")
    tokens = model.generate(prompt(), stop_token_ids=None)["token_ids"]
    assert tokens.min() >= 0
    assert tokens.max() < VOCABULARY
    assert counts(model.generate_function) == (1, 1, 0)


def test_strings_in_and_out():
    """The preprocessing runs in tf.data, beside compiled steps in one process."""
    pytest.importorskip("tensorflow_text", reason="keras-hub's tokenizers want tensorflow-text")
    words = ["<|endoftext|>", "Ġa", "Ġb", "Ġc", "a", "b", "c", "Ġ", "ab", "Ġab"]
    merges = ["Ġ a", "Ġ b", "Ġ c", "a b", "Ġa b"]
    tokenizer = keras_hub.models.GPT2Tokenizer(
        vocabulary={word: number for number, word in enumerate(words)}, merges=merges
    )
    model = keras_hub.models.GPT2CausalLM(
        backbone=keras_hub.models.GPT2Backbone(vocabulary_size=len(words), **CAUSAL["GPT2"]),
        preprocessor=keras_hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=12),
    )
    model.compile(sampler="greedy", optimizer="adam")
    for text in (" a b", " c"):
        assert model.generate(text).startswith(text)
    assert counts(model.generate_function) == (1, 2, 0)
    model.fit([" a b c", " c b a"], batch_size=2, verbose=0)
    assert counts(model.train_function) == (1, 1, 0)


def seeded_classifier(name, **options):
    keras.utils.set_random_seed(0)  # of dropout
    return classifier(name, **options)


def repeated(images):
    return np.concatenate([images, 1 - images])


def counts(function):
    return tuple(vars(function.step.counts).values())


def ours(warnings):
    """What the backend warned of; keras-hub's and Keras's own warnings are theirs."""
    return [
        str(w.message)
        for w in warnings
        if "keras-triton" in str(w.message) or "captured" in str(w.message)
    ]
