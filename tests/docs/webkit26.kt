// SPDX-License-Identifier: MIT
// What the WebView sample uses of API level 26, in place of android.jar's class: nothing runs.
package android.webkit

open class RenderProcessGoneDetail

open class WebViewClient {
    open fun shouldInterceptRequest(view: WebView, request: WebResourceRequest): WebResourceResponse? = null

    @Deprecated("for API levels before 24")
    open fun shouldOverrideUrlLoading(view: WebView, url: String): Boolean = false

    open fun onRenderProcessGone(view: WebView, detail: RenderProcessGoneDetail): Boolean = false
}
