// SPDX-License-Identifier: MIT
package dev.tinyvlm

import java.nio.ByteBuffer

/** The C functions of jni.c. Handles are pointers: whoever calls must know that they are live. */
internal object Native {
    init {
        System.loadLibrary("tinyvlm_jni")
    }

    /** Takes whole characters of the answer, as UTF-8; false stops it. */
    fun interface Sink {
        fun take(bytes: ByteArray): Boolean
    }

    @JvmStatic external fun load(
        path: ByteArray, precision: ByteArray?, threads: Int, contextLength: Int, maxBeams: Int, memoryLimit: Long,
    ): Long
    @JvmStatic external fun close(handle: Long)
    @JvmStatic external fun trim(handle: Long)
    @JvmStatic external fun numbers(handle: Long): LongArray // image size, vision tokens, their width, weight bytes
    @JvmStatic external fun text(handle: Long, which: Int): ByteArray // architecture, name, license, CPU tier

    @JvmStatic external fun newCancel(): Long
    @JvmStatic external fun requestCancel(cancel: Long)
    @JvmStatic external fun freeCancel(cancel: Long)

    @JvmStatic external fun encode(
        handle: Long, pixels: ByteBuffer, width: Int, height: Int, channels: Int, stride: Int, cancel: Long,
    ): Long
    @JvmStatic external fun freeImage(image: Long)

    @JvmStatic external fun ask(
        handle: Long, image: Long, question: ByteArray, counts: IntArray, temperature: Float, topP: Float, seed: Long,
        stop: Array<ByteArray>, cancel: Long, sink: Sink, // counts: tokens at most, topK, beams, n-gram, tokens at least
    )
}
