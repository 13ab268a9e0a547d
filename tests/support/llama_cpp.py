"""Calls llama.cpp's C functions (include/llama.h) on a GGUF, using the library inside the PyPI package xllamacpp.
Parameter structs are its defaults in opaque memory larger than any of them; the few fields set here are addressed by
their offset in this version."""

import ctypes
import importlib.util
import pathlib

SIZE = 4096


class Opaque(ctypes.Structure):
    _fields_ = [("words", ctypes.c_uint64 * (SIZE // 8))]


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)),
                ("embd", ctypes.POINTER(ctypes.c_float)), ("pos", ctypes.POINTER(ctypes.c_int32)),
                ("n_seq_id", ctypes.POINTER(ctypes.c_int32)), ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
                ("logits", ctypes.POINTER(ctypes.c_int8))]


def library():
    """The library, or None if the package is not installed."""
    found = importlib.util.find_spec("xllamacpp")
    if found is None:
        return None
    file = next(pathlib.Path(found.origin).parent.glob("xllamacpp*.so"))
    llama = ctypes.CDLL(str(file))
    pointer, text, integer = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32
    for name, result, arguments in [
            ("llama_model_default_params", Opaque, []), ("llama_context_default_params", Opaque, []),
            ("llama_model_load_from_file", pointer, [text, Opaque]), ("llama_init_from_model", pointer, [pointer, Opaque]),
            ("llama_model_get_vocab", pointer, [pointer]), ("llama_vocab_n_tokens", integer, [pointer]),
            ("llama_batch_init", Batch, [integer, integer, integer]), ("llama_batch_free", None, [Batch]),
            ("llama_decode", integer, [pointer, Batch]), ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), [pointer, integer]),
            ("llama_free", None, [pointer]), ("llama_model_free", None, [pointer]), ("llama_model_n_ctx_train", integer, [pointer]),
            ("llama_tokenize", integer, [pointer, text, integer, ctypes.POINTER(integer), integer, ctypes.c_bool, ctypes.c_bool]),
            ("llama_token_to_piece", integer, [pointer, integer, ctypes.c_char_p, integer, integer, ctypes.c_bool]),
            ("llama_model_chat_template", text, [pointer, text]), ("llama_vocab_eos", integer, [pointer]),
            ("llama_vocab_bos", integer, [pointer]), ("llama_vocab_get_add_bos", ctypes.c_bool, [pointer]),
            ("llama_vocab_is_eog", ctypes.c_bool, [pointer, integer])]:
        function = getattr(llama, name)
        function.restype, function.argtypes = result, arguments
    # Keeps only warnings and errors (ggml_log_level 3 and 4).
    log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
    llama.messages = []
    llama.keep = log(lambda level, message, _: llama.messages.append(message.decode(errors="replace")) if level in (3, 4) else None)
    llama.llama_log_set.argtypes = [log, pointer]
    llama.llama_log_set(llama.keep, None)
    llama.llama_backend_init()
    return llama


class Model:
    def __init__(self, llama, path):
        self.llama = llama
        llama.messages.clear()
        self.model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
        if not self.model:
            raise ValueError("llama.cpp refuses the file: " + "".join(llama.messages))
        self.vocab = llama.llama_model_get_vocab(self.model)
        self.size = llama.llama_vocab_n_tokens(self.vocab)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.llama.llama_model_free(self.model)

    def logits(self, tokens):
        """The logits after every token: [len(tokens)][vocabulary]."""
        import numpy
        llama, n = self.llama, len(tokens)
        parameters = llama.llama_context_default_params()
        # n_ctx, n_batch and n_ubatch, n_threads, flash_attn_type, type_k and type_v: a cache in float32 and no shortcuts.
        fields = ctypes.cast(ctypes.pointer(parameters), ctypes.POINTER(ctypes.c_int32))
        assert tuple(fields[i] for i in (7, 8, 13, 26, 27)) == (4, 4, -1, 1, 1), "llama_context_params is another"
        fields[0] = fields[1] = fields[2] = (n + 255) // 256 * 256
        fields[7] = fields[8] = 1
        fields[13] = fields[26] = fields[27] = 0
        context = llama.llama_init_from_model(self.model, parameters)
        if not context:
            raise ValueError("llama.cpp makes no context: " + "".join(llama.messages))
        batch = llama.llama_batch_init(n, 0, 1)
        batch.n_tokens = n
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
            batch.seq_id[i][0] = 0
        if llama.llama_decode(context, batch) != 0:
            raise ValueError("llama.cpp does not decode: " + "".join(llama.messages))
        result = numpy.array([numpy.ctypeslib.as_array(llama.llama_get_logits_ith(context, i), (self.size,)).copy()
                              for i in range(n)])
        llama.llama_batch_free(batch)
        llama.llama_free(context)
        return result

    def greedy(self, tokens, count):
        result = list(tokens)
        for _ in range(count):
            result.append(int(self.logits(result)[-1].argmax()))
        return result[len(tokens):]

    def tokenize(self, text, special=False):
        """`special`: adds what the tokenizer puts around a text. Special tokens written out in the text become their ids."""
        raw = text.encode()
        room = len(raw) + 16
        ids = (ctypes.c_int32 * room)()
        count = self.llama.llama_tokenize(self.vocab, raw, len(raw), ids, room, special, True)
        assert count >= 0
        return list(ids[:count])

    def template(self, name=None):
        text = self.llama.llama_model_chat_template(self.model, name.encode() if name else None)
        return text.decode() if text else None
