"""CLIP and T5 tokenizers with small vocabularies of their own, learnt from texts; other words are spelt in pieces."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer, T5Tokenizer

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


def make_t5_tokenizer(texts: list[str], size: int = 800) -> T5Tokenizer:
    """Unigram pieces learnt from the texts; every printable ASCII character is a piece of its own."""
    letters = [chr(code) for code in range(33, 127)]
    model = Tokenizer(models.Unigram())
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", initial_alphabet=letters,
        show_progress=False,
    )  # fmt: skip
    model.train_from_iterator(texts, trainer)
    vocabulary = [tuple(piece) for piece in json.loads(model.to_str())["model"]["vocab"]]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=64)
