// SPDX-License-Identifier: MIT
package dev.tinyvlm.sample

import android.app.Activity
import android.content.Intent
import android.graphics.BitmapFactory
import android.os.Bundle
import android.widget.Button
import android.widget.LinearLayout
import android.widget.TextView

/** A photo of the phone's, and what the model in a WebView says of it. */
class WebViewActivity : Activity() {
    private var web: VlmWebView? = null
    private lateinit var layout: LinearLayout
    private lateinit var caption: TextView

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        caption = TextView(this)
        val choose = Button(this).apply {
            text = "Photo"
            setOnClickListener { startActivityForResult(Intent(Intent.ACTION_GET_CONTENT).setType("image/*"), 0) }
        }
        layout = LinearLayout(this).apply {
            orientation = LinearLayout.VERTICAL
            addView(choose)
            addView(caption)
        }
        setContentView(layout)
    }

    /** Also anew, where the one before is gone. */
    override fun onStart() {
        super.onStart()
        if (web == null) web = newWeb()
    }

    private fun newWeb(): VlmWebView {
        val view = VlmWebView(this, ::webIsGone) { _, answer, error -> runOnUiThread { caption.text = answer ?: error } }
        layout.addView(view, LinearLayout.LayoutParams(1, 1)) // there is nothing to see
        return view
    }

    private fun webIsGone() {
        web = null
        caption.text = "The system took the WebView's memory. Choose the photo again."
    }

    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        super.onActivityResult(requestCode, resultCode, data)
        val uri = data?.data ?: return
        val quarter = BitmapFactory.Options().apply { inSampleSize = 4 } // more than the model sees
        val photo = contentResolver.openInputStream(uri)?.use { BitmapFactory.decodeStream(it, null, quarter) }
        if (photo == null) caption.text = "That is no photo." else web?.processFrame(photo)
    }

    override fun onDestroy() {
        web?.destroy()
        super.onDestroy()
    }
}
