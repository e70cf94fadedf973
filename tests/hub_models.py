"""Tiny models of keras-hub with drawn weights, and inputs for them: the same in every process."""

from typing import Any

import keras
import keras_hub
import numpy as np
from drawn_weights import draw_weights

VOCABULARY = 40
LENGTH = 10
BATCH = 2

_ENCODER = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
_DECODER = {
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 24,
}
_LEARNED_POSITIONS = {"max_sequence_length": 16}
_EXPERTS = {**_DECODER, "num_experts": 4, "top_k": 2}
_IMAGE = {"image_shape": (32, 32, 3)}
_RESIDUAL = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [3],
    "stackwise_num_filters": [64, 16],
    "stackwise_num_blocks": [1, 1],
    "stackwise_num_strides": [1, 2],
}
_VIT = {"patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 8}

TEXT: dict[str, dict[str, Any]] = {
    "Albert": {**_ENCODER, **_LEARNED_POSITIONS, "embedding_dim": 6},
    "Bert": {**_ENCODER, **_LEARNED_POSITIONS},
    "DebertaV3": {**_ENCODER, **_LEARNED_POSITIONS, "bucket_size": 4},
    "DistilBert": {**_ENCODER, **_LEARNED_POSITIONS},
    "FNet": {
        "num_layers": 2,
        "hidden_dim": 8,
        "intermediate_dim": 16,
        **_LEARNED_POSITIONS,
    },
    "Roberta": {**_ENCODER, **_LEARNED_POSITIONS},
    "XLMRoberta": {**_ENCODER, **_LEARNED_POSITIONS},
}
CAUSAL: dict[str, dict[str, Any]] = {
    "Bloom": _ENCODER,
    "Falcon": {
        "num_layers": 2,
        "num_attention_heads": 2,
        "hidden_dim": 8,
        "intermediate_dim": 16,
    },
    "GPT2": {**_ENCODER, **_LEARNED_POSITIONS},
    "GPTNeoX": {**_ENCODER, **_LEARNED_POSITIONS, "rotary_percentage": 0.5},
    "Gemma": {**_DECODER, "head_dim": 4},
    "Gemma3": {**_DECODER, "head_dim": 4, "image_size": 16},
    "GptOss": {**_EXPERTS, "head_dim": 4, "sliding_window": 4},
    "Llama": _DECODER,
    "Llama3": _DECODER,
    "Mistral": {**_DECODER, "sliding_window": 4},
    "Mixtral": {**_EXPERTS, "sliding_window": 4},
    "OPT": {**_ENCODER, **_LEARNED_POSITIONS},
    "Phi3": _DECODER,
    "Qwen": _DECODER,
    "Qwen3": {**_DECODER, "head_dim": 4},
    "Qwen3Moe": {**_EXPERTS, "head_dim": 4, "moe_intermediate_dim": 12},
    "QwenMoe": {
        **_EXPERTS,
        "moe_intermediate_dim": 12,
        "shared_expert_intermediate_dim": 12,
    },
}
SEQUENCE_TO_SEQUENCE: dict[str, dict[str, Any]] = {
    "Bart": {**_ENCODER, **_LEARNED_POSITIONS},
    "T5": _ENCODER,
}
IMAGE: dict[str, dict[str, Any]] = {
    "DeiT": {**_VIT, **_IMAGE, "intermediate_dim": 16},
    "DenseNet": {**_IMAGE, "stackwise_num_repeats": [1, 2], "growth_rate": 4},
    "MiT": {
        **_IMAGE,
        "layerwise_depths": [1, 1],
        "num_layers": 2,
        "layerwise_num_heads": [1, 2],
        "layerwise_sr_ratios": [2, 1],
        "max_drop_path_rate": 0.1,
        "layerwise_patch_sizes": [7, 3],
        "layerwise_strides": [4, 2],
        "hidden_dims": [4, 8],
    },
    "ResNet": {**_IMAGE, **_RESIDUAL, "block_type": "basic_block"},
    "SwinTransformer": {
        "image_shape": (32, 32, 3),
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [1, 2],
        "window_size": 2,
    },
    "VGG": {**_IMAGE, "stackwise_num_repeats": [1, 1], "stackwise_num_filters": [4, 8]},
    "ViT": {**_VIT, **_IMAGE, "mlp_dim": 16},
    "Xception": {
        **_IMAGE,
        "stackwise_conv_filters": [[8, 8], [8, 8]],
        "stackwise_pooling": [True, False],
    },
}
WHISPER = {
    **_ENCODER,
    "num_mels": 8,
    "max_encoder_sequence_length": 12,
    "max_decoder_sequence_length": 16,
}
BACKBONES = (*TEXT, *CAUSAL, *SEQUENCE_TO_SEQUENCE, *IMAGE, "Whisper")


def backbone(name: str) -> Any:
    """The backbone `name` in its tiny configuration."""
    options: dict[str, Any] = {"vocabulary_size": VOCABULARY}
    if name in IMAGE:
        options = IMAGE[name]
    elif name == "Whisper":
        options |= WHISPER
    else:
        options |= {**TEXT, **CAUSAL, **SEQUENCE_TO_SEQUENCE}[name]
    model = getattr(keras_hub.models, f"{name}Backbone")(**options)
    draw_weights(model)
    return model


def classifier(name: str, **compile_options: Any) -> Any:
    """A classifier of three classes on the backbone, compiled for `fit`."""
    kind = "Text" if name in TEXT else "Image"
    task = getattr(keras_hub.models, f"{name}{kind}Classifier")
    model = task(backbone=backbone(name), num_classes=3, preprocessor=None)
    draw_weights(model)
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **compile_options,
    )
    return model


def language_model(name: str, sampler: Any, **compile_options: Any) -> Any:
    """A causal language model on the backbone, compiled for `generate`."""
    task = getattr(keras_hub.models, f"{name}CausalLM")
    model = task(backbone=backbone(name), preprocessor=None)
    model.compile(sampler=sampler, **compile_options)
    return model


def prompt(seed: int = 0) -> dict[str, np.ndarray]:
    """Two rows of tokens, of which the first 4 and 3 are given."""
    tokens = np.random.default_rng(seed).integers(1, VOCABULARY, (BATCH, LENGTH))
    given = np.arange(LENGTH) < np.array([[4], [3]])
    return {"token_ids": tokens.astype("int32"), "padding_mask": given}


def inputs(model: Any) -> Any:
    """A batch for a functional model, by the names and shapes of its inputs; rows are padded."""
    generator = np.random.default_rng(7)
    if not isinstance(model.input, dict):
        return _image(generator, model.input)
    return {name: _input(generator, name, wanted) for name, wanted in model.input.items()}


def _image(generator: np.random.Generator, wanted: Any) -> np.ndarray:
    return generator.uniform(0, 1, (BATCH, *wanted.shape[1:])).astype("float32")


def _input(generator: np.random.Generator, name: str, wanted: Any) -> np.ndarray:
    if "padding_mask" in name:
        return np.array([[1] * (LENGTH - 3 * row) + [0] * (3 * row) for row in range(BATCH)])
    if "segment" in name:
        return np.array([[0] * 4 + [1] * (LENGTH - 4)] * BATCH)
    if "features" in name:
        frames = WHISPER["max_encoder_sequence_length"]
        shape = (BATCH, frames, WHISPER["num_mels"])
        return generator.uniform(-1, 1, shape).astype("float32")
    if "images" in name:
        return _image(generator, wanted)
    return generator.integers(1, VOCABULARY, (BATCH, LENGTH))
