// SPDX-License-Identifier: MIT
// What the Kotlin examples of docs/MOBILE.md and js/README.md find: scripts/test_android.sh.
import android.content.Context
import android.graphics.Bitmap
import android.media.Image
import android.util.Log
import android.webkit.JavascriptInterface
import android.webkit.WebResourceRequest
import android.webkit.WebView
import android.webkit.WebViewClient
import android.widget.FrameLayout
import android.widget.TextView
import androidx.webkit.WebViewAssetLoader
import androidx.webkit.WebViewAssetLoader.AssetsPathHandler
import androidx.webkit.webViewClient
import dev.tinyvlm.Pixels
import dev.tinyvlm.TinyVlm
import dev.tinyvlm.sample.VlmWebView
import java.io.File
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.withContext

private suspend fun example(
    context: Context, layout: FrameLayout, webView: WebView, caption: TextView, file: File, bitmap: Bitmap, image: Image,
    base64: String,
) {
    // EXAMPLE
}
