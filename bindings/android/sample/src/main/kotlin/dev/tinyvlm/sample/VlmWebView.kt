// SPDX-License-Identifier: MIT
package dev.tinyvlm.sample

import android.annotation.SuppressLint
import android.content.Context
import android.graphics.Bitmap
import android.util.Base64
import android.view.ViewGroup
import android.webkit.JavascriptInterface
import android.webkit.RenderProcessGoneDetail
import android.webkit.WebResourceRequest
import android.webkit.WebResourceResponse
import android.webkit.WebView
import android.webkit.WebViewClient
import java.io.ByteArrayOutputStream
import java.io.IOException
import org.json.JSONObject

/**
 * tinyvlm in a WebView: the npm package and a model, served from the app's assets as a page of its own origin, as module
 * scripts and WebAssembly need one. Frames go in by [processFrame], answers come by [onAnswer], on a thread of the
 * WebView; id -1: the model cannot be loaded. Nothing is loaded from elsewhere, as what is could use the bridge.
 *
 * The page and the model live in a process of the WebView's own, which the system may end to have its memory. Then this view
 * is out of its parent and of no more use, frames that wait get no answer, and [onGone] is called, on the main thread: make
 * another one when there is need.
 *
 * assets/vlm has index.html and bridge.js, the package as vlm/tinyvlm and the model as vlm/model.gguf.
 */
@SuppressLint("SetJavaScriptEnabled", "ViewConstructor")
class VlmWebView(
    context: Context, private val onGone: () -> Unit = {}, private val onAnswer: (id: Int, answer: String?, error: String?) -> Unit,
) : WebView(context) {
    private var next = 0

    init {
        settings.javaScriptEnabled = true
        settings.allowFileAccess = false
        settings.allowContentAccess = false
        setWebViewClient(object : WebViewClient() {
            override fun shouldInterceptRequest(view: WebView, request: WebResourceRequest): WebResourceResponse =
                asset(request.url.toString())

            @Deprecated("for API levels before 24; later ones call it too")
            override fun shouldOverrideUrlLoading(view: WebView, url: String): Boolean =
                !url.startsWith(ORIGIN)

            /** True: the app lives on. */
            override fun onRenderProcessGone(view: WebView, detail: RenderProcessGoneDetail): Boolean {
                (view.parent as? ViewGroup)?.removeView(view)
                view.destroy()
                onGone()
                return true
            }
        })
        addJavascriptInterface(Camera(), "AndroidCamera")
        loadUrl(ORIGIN + "vlm/index.html")
    }

    /**
     * Asks about a frame of any size, on the main thread; returns the answer's id. The newest frame waits while the model is
     * busy: older ones get no answer.
     */
    fun processFrame(bitmap: Bitmap, prompt: String = "Describe"): Int {
        val id = next++
        val jpeg = ByteArrayOutputStream()
        shrunk(bitmap).compress(Bitmap.CompressFormat.JPEG, 90, jpeg)
        val base64 = Base64.encodeToString(jpeg.toByteArray(), Base64.NO_WRAP)
        evaluateJavascript(
            "window.processImage ? window.processImage('$base64', ${JSONObject.quote(prompt)}, $id)" +
                " : AndroidCamera.error($id, 'the page is not loaded yet')",
            null,
        )
        return id
    }

    private inner class Camera {
        @JavascriptInterface fun answer(id: Int, text: String) = onAnswer(id, text, null)

        @JavascriptInterface fun error(id: Int, message: String) = onAnswer(id, null, message)
    }

    private fun asset(url: String): WebResourceResponse {
        val path = url.removePrefix(ORIGIN).substringBefore('?')
        return try {
            if (!url.startsWith(ORIGIN)) throw IOException("not of the app")
            WebResourceResponse(type(path), null, 200, "OK", HEADERS, context.assets.open(path))
        } catch (e: IOException) {
            WebResourceResponse("text/plain", "utf-8", 404, "Not Found", HEADERS, null)
        }
    }

    private fun type(path: String): String = when (path.substringAfterLast('.')) {
        "html" -> "text/html"
        "js", "mjs" -> "text/javascript"
        "wasm" -> "application/wasm"
        else -> "application/octet-stream"
    }

    companion object {
        const val ORIGIN = "https://appassets.androidplatform.net/" // reserved for this: no server answers there
        private val HEADERS = mapOf("Cross-Origin-Opener-Policy" to "same-origin", "Cross-Origin-Embedder-Policy" to "require-corp")
    }
}

private const val LONGEST = 448 // pixels, twice what the model sees

/** The way to the page costs time for each pixel. Halves at most at a time: the filter looks at four neighbours. */
internal tailrec fun shrunk(bitmap: Bitmap): Bitmap {
    val longest = maxOf(bitmap.width, bitmap.height)
    if (longest <= LONGEST) return bitmap
    val to = maxOf(LONGEST, (longest + 1) / 2)
    fun scaled(side: Int) = maxOf(1, side * to / longest)
    return shrunk(Bitmap.createScaledBitmap(bitmap, scaled(bitmap.width), scaled(bitmap.height), true))
}
