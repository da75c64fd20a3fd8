// SPDX-License-Identifier: MIT
package dev.tinyvlm.sample

import android.Manifest
import android.annotation.SuppressLint
import android.app.Activity
import android.content.Context
import android.content.pm.PackageManager
import android.graphics.ImageFormat
import android.graphics.SurfaceTexture
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.media.Image
import android.media.ImageReader
import android.os.Bundle
import android.os.Handler
import android.os.HandlerThread
import android.view.Gravity
import android.view.Surface
import android.view.TextureView
import android.widget.FrameLayout
import android.widget.TextView
import dev.tinyvlm.Pixels
import dev.tinyvlm.TinyVlm
import dev.tinyvlm.TinyVlmException
import java.io.File
import java.io.IOException
import java.util.concurrent.atomic.AtomicBoolean
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch

/** The camera, and below it what the model sees: the newest frame only, one at a time. */
class CameraActivity : Activity(), TextureView.SurfaceTextureListener {
    private val scope = CoroutineScope(Dispatchers.IO + Job())
    private val busy = AtomicBoolean()
    private lateinit var preview: TextureView
    private lateinit var caption: TextView
    @Volatile private var vlm: TinyVlm? = null
    @Volatile private var isShown = false
    private var isAsked = false // for the camera
    private val thread = HandlerThread("camera").apply { start() }
    private val handler by lazy { Handler(thread.looper) }
    private var camera: CameraDevice? = null // these three: of the camera's thread
    private var reader: ImageReader? = null
    private var rotation = 0

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        preview = TextureView(this)
        caption = TextView(this).apply {
            setPadding(32, 32, 32, 32)
            setBackgroundColor(0x80000000.toInt())
            setTextColor(-1)
        }
        setContentView(
            FrameLayout(this).apply {
                addView(preview)
                addView(caption, FrameLayout.LayoutParams(-1, -2, Gravity.BOTTOM))
            },
        )
        preview.surfaceTextureListener = this
        scope.launch {
            try {
                val loaded = TinyVlm.load(modelFile().path)
                runOnUiThread { if (isDestroyed) loaded.close() else vlm = loaded }
                show("Looking …")
            } catch (e: TinyVlmException) {
                show(e.message)
            } catch (e: IOException) {
                show(e.message)
            }
        }
    }

    /** The library reads files, so the asset is copied: once for each version of the app, which empties that folder. */
    private fun modelFile(): File {
        val file = File(codeCacheDir, MODEL)
        if (!file.exists()) {
            val part = File(codeCacheDir, "$MODEL.part")
            assets.open("vlm/$MODEL").use { from -> part.outputStream().use { from.copyTo(it) } }
            if (!part.renameTo(file)) throw IOException("cannot write $file")
        }
        return file
    }

    private fun show(text: String?) = runOnUiThread { caption.text = text }

    private fun take(image: Image) {
        val model = vlm
        if (model == null || !busy.compareAndSet(false, true)) return image.close()
        val pixels = image.use { Pixels(it, rotation) }
        scope.launch {
            try {
                show(model.ask(pixels, "What objects are visible?", 50))
            } catch (e: TinyVlmException) {
                show(e.message)
            } finally {
                busy.set(false)
            }
        }
    }

    // ---- camera2 ----

    override fun onResume() {
        super.onResume()
        isShown = true
        if (preview.isAvailable) begin()
    }

    override fun onPause() {
        isShown = false
        handler.post(::closeCamera)
        super.onPause()
    }

    override fun onSurfaceTextureAvailable(surface: SurfaceTexture, width: Int, height: Int) = begin()

    /** Once the user has said yes or no, the activity is resumed. */
    private fun begin() {
        when {
            checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED -> openCamera()
            isAsked -> show("No camera, no answer.")
            else -> requestPermissions(arrayOf(Manifest.permission.CAMERA), 0)
        }
        isAsked = true
    }

    @SuppressLint("MissingPermission") // asked for above
    private fun openCamera() {
        val manager = getSystemService(Context.CAMERA_SERVICE) as CameraManager
        val degrees = 90 * windowManager.defaultDisplay.rotation
        try {
            val back = manager.cameraIdList.firstOrNull {
                manager.getCameraCharacteristics(it)[CameraCharacteristics.LENS_FACING] == CameraCharacteristics.LENS_FACING_BACK
            } ?: return show("There is no camera.")
            val sensor = manager.getCameraCharacteristics(back)[CameraCharacteristics.SENSOR_ORIENTATION] ?: 0
            handler.post { rotation = (sensor - degrees + 360) % 360 }
            manager.openCamera(back, Opened(), handler)
        } catch (e: CameraAccessException) {
            show(e.message)
        }
    }

    private inner class Opened : CameraDevice.StateCallback() {
        override fun onOpened(device: CameraDevice) = if (isShown) start(device) else device.close()

        override fun onDisconnected(device: CameraDevice) = device.close()

        override fun onError(device: CameraDevice, error: Int) {
            device.close()
            show("The camera stopped: error $error.")
        }
    }

    private fun closeCamera() {
        camera?.close()
        reader?.close()
        camera = null
        reader = null
    }

    private fun start(device: CameraDevice) {
        camera = device
        val frames = ImageReader.newInstance(640, 480, ImageFormat.YUV_420_888, 2)
        frames.setOnImageAvailableListener({ it.acquireLatestImage()?.let(::take) }, handler)
        reader = frames
        val texture = preview.surfaceTexture ?: return
        texture.setDefaultBufferSize(640, 480)
        val surfaces = listOf(Surface(texture), frames.surface)
        device.createCaptureSession(
            surfaces,
            object : CameraCaptureSession.StateCallback() {
                override fun onConfigured(session: CameraCaptureSession) {
                    if (camera !== device) return
                    val request = device.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW)
                    surfaces.forEach(request::addTarget)
                    session.setRepeatingRequest(request.build(), null, handler)
                }

                override fun onConfigureFailed(session: CameraCaptureSession) = show("The camera cannot be configured.")
            },
            handler,
        )
    }

    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        vlm?.let { scope.launch { it.trim() } }
    }

    override fun onDestroy() {
        scope.cancel()
        thread.quitSafely()
        vlm?.close()
        super.onDestroy()
    }

    override fun onSurfaceTextureSizeChanged(surface: SurfaceTexture, width: Int, height: Int) = Unit
    override fun onSurfaceTextureUpdated(surface: SurfaceTexture) = Unit
    override fun onSurfaceTextureDestroyed(surface: SurfaceTexture): Boolean = true

    private companion object {
        const val MODEL = "model.gguf"
    }
}
