// SPDX-License-Identifier: MIT
// What js/README.md uses of androidx.webkit, and of API levels after 23: nothing runs.
package androidx.webkit

import android.content.Context
import android.net.Uri
import android.webkit.WebResourceResponse
import android.webkit.WebView
import android.webkit.WebViewClient

class WebViewAssetLoader {
    interface PathHandler

    class AssetsPathHandler(context: Context) : PathHandler

    class Builder {
        fun addPathHandler(path: String, handler: PathHandler): Builder = this
        fun build() = WebViewAssetLoader()
    }

    fun shouldInterceptRequest(url: Uri): WebResourceResponse? = null
}

var WebView.webViewClient: WebViewClient // of API level 26
    get() = WebViewClient()
    set(client) = setWebViewClient(client)
