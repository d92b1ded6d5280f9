#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""mlx_folder.py MODEL.gguf FOLDER [bits]

Makes the folder that mlx_lm.server reads from a llama-architecture GGUF with a byte-level BPE
vocabulary, so that MLX runs the very weights the other systems run: dequantized to 16 bits, and with
`bits` (4 or 8) quantized again in MLX's own groups of 32.  Needs: mlx-lm[cpu], gguf."""
import json
import os
import shutil
import sys

import numpy
from gguf import GGUFReader, dequantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

TENSORS = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
CONTROL = 3  # tokenizer.ggml.token_type
DIGITS_APART = {"smollm"}  # values of tokenizer.ggml.pre made with digits one by one


def value(reader, key, default=None):
    field = reader.fields.get(key)
    return default if field is None else field.contents()


def halves_together(weights, n_heads):
    """GGUF pairs the rotated dimensions 2i and 2i + 1, the folder i and i + head_dim / 2."""
    rows, columns = weights.shape
    return weights.reshape(n_heads, rows // n_heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def name_of(name):
    if name in ("token_embd.weight", "output_norm.weight", "output.weight"):
        return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
                "output.weight": "lm_head.weight"}[name]
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{TENSORS[part]}.weight"


def write_weights(reader, heads, kv_heads, folder):
    tensors = {}
    for t in reader.tensors:
        weights = dequantize(t.data, t.tensor_type)
        if ".attn_q." in t.name or ".attn_k." in t.name:
            weights = halves_together(weights, heads if ".attn_q." in t.name else kv_heads)
        tensors[name_of(t.name)] = numpy.ascontiguousarray(weights.astype(numpy.float16))
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "mlx"})
    return "lm_head.weight" not in tensors


def write_tokenizer(reader, folder):
    tokens = value(reader, "tokenizer.ggml.tokens")
    types = value(reader, "tokenizer.ggml.token_type")
    merges = [tuple(m.split(" ", 1)) for m in value(reader, "tokenizer.ggml.merges")]
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    steps = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if value(reader, "tokenizer.ggml.pre") in DIGITS_APART:
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tok.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(t, normalized=False) for t, kind in zip(tokens, types) if kind == CONTROL])
    tok.save(os.path.join(folder, "tokenizer.json"))
    of = lambda key: tokens[value(reader, f"tokenizer.ggml.{key}_token_id")]
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": of("bos"), "eos_token": of("eos"),
                   "clean_up_tokenization_spaces": False, "chat_template": value(reader, "tokenizer.chat_template")}, f)


def write_config(reader, is_tied, folder):
    llama = lambda key, default=None: value(reader, f"llama.{key}", default)
    heads = llama("attention.head_count")
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float16",
            "hidden_size": llama("embedding_length"), "intermediate_size": llama("feed_forward_length"),
            "num_hidden_layers": llama("block_count"), "num_attention_heads": heads,
            "num_key_value_heads": llama("attention.head_count_kv", heads),
            "head_dim": llama("rope.dimension_count"), "rms_norm_eps": llama("attention.layer_norm_rms_epsilon"),
            "rope_theta": llama("rope.freq_base", 10000.0), "max_position_embeddings": llama("context_length"),
            "vocab_size": llama("vocab_size"), "tie_word_embeddings": is_tied, "hidden_act": "silu",
            "bos_token_id": value(reader, "tokenizer.ggml.bos_token_id"),
            "eos_token_id": value(reader, "tokenizer.ggml.eos_token_id")}, f, indent=1)


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    reader, folder = GGUFReader(sys.argv[1]), sys.argv[2]
    if value(reader, "general.architecture") != "llama" or value(reader, "tokenizer.ggml.model") != "gpt2":
        sys.exit(f"{sys.argv[1]}: only models of the llama architecture with a BPE vocabulary")
    plain = folder + ".part"
    shutil.rmtree(plain, ignore_errors=True)
    os.makedirs(plain)
    heads = value(reader, "llama.attention.head_count")
    is_tied = write_weights(reader, heads, value(reader, "llama.attention.head_count_kv", heads), plain)
    write_config(reader, is_tied, plain)
    write_tokenizer(reader, plain)
    if len(sys.argv) == 3:
        os.rename(plain, folder)
        return
    from mlx_lm import convert
    convert(plain, folder, quantize=True, q_group_size=32, q_bits=int(sys.argv[3]))
    shutil.rmtree(plain)


main()
