# SPDX-License-Identifier: MIT
"""The C engine by its shared library (cmake -DTVLM_SHARED=ON), as far as `answers` asks it."""

import ctypes as c

import numpy as np

ERROR_BYTES, RESULT_BYTES = 4 + 512, 256  # tvlm_error; more than tvlm_result, of which text and text_len are the first fields


class Pixels(c.Structure):
    _fields_ = [("data", c.c_char_p), ("width", c.c_uint32), ("height", c.c_uint32), ("channels", c.c_uint32),
                ("stride", c.c_size_t)]


class Message(c.Structure):
    _fields_ = [("role", c.c_int), ("text", c.c_char_p), ("len", c.c_size_t), ("images", c.POINTER(c.c_void_p)),
                ("n_images", c.c_size_t), ("image_at", c.c_void_p)]


USER = 1


class Engine:
    """A model with one session; all parameters are the defaults."""

    def __init__(self, library, model):
        self.lib = c.CDLL(library)
        self.lib.tvlm_preprocess_floats.restype = c.c_size_t
        self.model = self.make("tvlm_model_open", str(model).encode(), None)
        self.engine = self.make("tvlm_engine_new", self.model, None)
        self.session = self.make("tvlm_session_new", self.model, None)

    def call(self, name, *arguments):
        error = c.create_string_buffer(ERROR_BYTES)
        if getattr(self.lib, name)(*arguments, error):
            raise RuntimeError(error.raw[4:].split(b"\0")[0].decode())

    def make(self, name, *arguments):
        out = c.c_void_p()
        self.call(name, *arguments, c.byref(out))
        return out

    @staticmethod
    def pixels(picture):
        """picture: u8 [h][w][3]"""
        return Pixels(picture.tobytes(), picture.shape[1], picture.shape[0], 3, 0)

    def preprocess(self, picture):
        """-> float32 [S * S * 3]"""
        pixels = self.pixels(picture)
        out = np.empty(self.lib.tvlm_preprocess_floats(self.model, c.byref(pixels), None), np.float32)
        self.call("tvlm_preprocess", self.model, c.byref(pixels), None, out.ctypes.data_as(c.c_void_p), c.c_size_t(out.size))
        return out

    def encode(self, picture):
        return self.make("tvlm_image_encode", self.engine, c.byref(self.pixels(picture)), None)

    def from_vision(self, vision, picture):
        """vision: float32 [n][width]"""
        vision = np.ascontiguousarray(vision)
        n, width = map(c.c_size_t, vision.shape)
        return self.make("tvlm_image_from_vision", self.engine, vision.ctypes.data_as(c.c_void_p), n, width,
                         picture.shape[1], picture.shape[0], None)

    def ask(self, image, question):
        """-> the answer; image is freed."""
        text = question.encode()
        prompt = self.make("tvlm_prompt_new", self.model)
        message = Message(USER, text, len(text), c.pointer(image), 1, None)
        result = (c.c_size_t * (RESULT_BYTES // c.sizeof(c.c_size_t)))(RESULT_BYTES)
        try:
            self.call("tvlm_prompt_chat", prompt, c.byref(message), c.c_size_t(1))
            self.call("tvlm_generate", self.engine, self.session, prompt, None, result)
            return c.string_at(result[1], result[2]).decode()
        finally:
            self.lib.tvlm_prompt_free(prompt)
            self.lib.tvlm_image_free(image)
