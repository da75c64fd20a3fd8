// SPDX-License-Identifier: MIT
package dev.tinyvlm.sample

import android.Manifest
import android.annotation.SuppressLint
import android.app.Activity
import android.content.Context
import android.content.pm.PackageManager
import android.graphics.ImageFormat
import android.graphics.SurfaceTexture
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
import java.io.File
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
    private var vlm: TinyVlm? = null
    private var camera: CameraDevice? = null
    private var reader: ImageReader? = null
    private val thread = HandlerThread("camera").apply { start() }
    private val handler by lazy { Handler(thread.looper) }

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
                vlm = TinyVlm.load(modelFile().path)
                show("Looking …")
            } catch (e: Exception) {
                show(e.message ?: e.toString())
            }
        }
    }

    /** The library reads files, so the asset is copied once. */
    private fun modelFile(): File {
        val file = File(filesDir, MODEL)
        if (!file.exists()) {
            val part = File(filesDir, "$MODEL.part")
            assets.open("vlm/$MODEL").use { from -> part.outputStream().use { from.copyTo(it) } }
            check(part.renameTo(file)) { "cannot write $file" }
        }
        return file
    }

    private fun show(text: String) = runOnUiThread { caption.text = text }

    private fun take(image: Image) {
        val model = vlm
        if (model == null || !busy.compareAndSet(false, true)) return image.close()
        val pixels = image.use { Pixels(it) }
        scope.launch {
            try {
                show(model.ask(pixels, "What objects are visible?", 50))
            } catch (e: Exception) {
                show(e.message ?: e.toString())
            } finally {
                busy.set(false)
            }
        }
    }

    // ---- camera2 ----

    override fun onSurfaceTextureAvailable(surface: SurfaceTexture, width: Int, height: Int) {
        if (checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED) {
            openCamera()
        } else {
            requestPermissions(arrayOf(Manifest.permission.CAMERA), 0)
        }
    }

    override fun onRequestPermissionsResult(code: Int, permissions: Array<String>, results: IntArray) {
        if (results.firstOrNull() == PackageManager.PERMISSION_GRANTED) openCamera() else show("No camera, no answer.")
    }

    @SuppressLint("MissingPermission") // asked for above
    private fun openCamera() {
        val manager = getSystemService(Context.CAMERA_SERVICE) as CameraManager
        val back = manager.cameraIdList.firstOrNull {
            manager.getCameraCharacteristics(it)[CameraCharacteristics.LENS_FACING] == CameraCharacteristics.LENS_FACING_BACK
        } ?: return show("There is no camera.")
        manager.openCamera(
            back,
            object : CameraDevice.StateCallback() {
                override fun onOpened(device: CameraDevice) = start(device)
                override fun onDisconnected(device: CameraDevice) = device.close()
                override fun onError(device: CameraDevice, error: Int) {
                    device.close()
                    show("The camera stopped: error $error.")
                }
            },
            handler,
        )
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
        camera?.close()
        reader?.close()
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
