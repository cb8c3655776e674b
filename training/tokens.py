"""A CLIP tokenizer with a small vocabulary of its own, learnt from the captions; other words are spelt in pieces."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"


def make_tokenizer(captions: list[str], folder: Path, size: int = 1400) -> CLIPTokenizer:
    """Byte-pair merges over the captions; the vocabulary has every byte, inside and at the end of a word."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    model.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    words = (w for c in captions for w in c.lower().replace(",", " , ").replace("'", " ' ").split())
    model.train_from_iterator(words, trainer)
    merges = [tuple(m) for m in json.loads(model.to_str())["model"]["merges"]]
    symbols = [*letters, *(f"{c}</w>" for c in letters)]
    for left, right in merges:
        symbols += [left, right, left + right]
    symbols += [START, END]
    vocabulary = {s: i for i, s in enumerate(dict.fromkeys(symbols))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=77)
    tokenizer.save_pretrained(folder)
    return tokenizer
