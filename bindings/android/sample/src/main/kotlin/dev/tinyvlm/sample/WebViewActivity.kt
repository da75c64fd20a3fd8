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
    private lateinit var web: VlmWebView
    private lateinit var caption: TextView

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        caption = TextView(this)
        web = VlmWebView(this) { _, answer, error -> runOnUiThread { caption.text = answer ?: error } }
        val choose = Button(this).apply {
            text = "Photo"
            setOnClickListener { startActivityForResult(Intent(Intent.ACTION_GET_CONTENT).setType("image/*"), 0) }
        }
        setContentView(
            LinearLayout(this).apply {
                orientation = LinearLayout.VERTICAL
                addView(choose)
                addView(caption)
                addView(web, LinearLayout.LayoutParams(1, 1)) // there is nothing to see
            },
        )
    }

    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        super.onActivityResult(requestCode, resultCode, data)
        val uri = data?.data ?: return
        val quarter = BitmapFactory.Options().apply { inSampleSize = 4 } // more than the model sees
        val photo = contentResolver.openInputStream(uri)?.use { BitmapFactory.decodeStream(it, null, quarter) }
        if (photo == null) caption.text = "That is no photo." else web.processFrame(photo)
    }

    override fun onDestroy() {
        web.destroy()
        super.onDestroy()
    }
}
