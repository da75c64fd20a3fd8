// SPDX-License-Identifier: MIT
// The camera with what the model sees written over it. In an app: add the package, the model file, and a camera usage
// text (NSCameraUsageDescription).
import AVFoundation
import SwiftUI
import TinyVLM

@MainActor
final class CameraVLMModel: ObservableObject {
    @Published private(set) var caption = "Loading …"
    private var vlm: TinyVLM?

    func load(modelPath: String) async {
        guard await AVCaptureDevice.requestAccess(for: .video) else {
            caption = "No camera, no answer."
            return
        }
        do {
            vlm = try await Task.detached { try TinyVLM(modelPath: modelPath) }.value
            caption = "Looking …"
        } catch {
            caption = "\(error)"
        }
    }

    func process(_ frame: RGBImage) async {
        guard let vlm else { return }
        do {
            var text = ""
            for try await piece in vlm.stream(image: frame, prompt: "What objects are visible?", maxTokens: 50) {
                text += piece
                caption = text
            }
        } catch {
            caption = "\(error)"
        }
    }

    func trim() {
        guard let vlm else { return }
        Task { await vlm.trim() }
    }
}

struct CameraVLMView: View {
    let modelPath: String
    @StateObject private var model = CameraVLMModel()

    var body: some View {
        ZStack {
            CameraPreview { frame in await model.process(frame) }
            VStack {
                Spacer()
                Text(model.caption)
                    .padding()
                    .background(.thinMaterial)
            }
        }
        .task { await model.load(modelPath: modelPath) }
        .onReceive(NotificationCenter.default.publisher(for: UIApplication.didReceiveMemoryWarningNotification)) { _ in
            model.trim()
        }
    }
}

/// The back camera of a phone held upright.
struct CameraPreview: UIViewRepresentable {
    let onFrame: @Sendable (RGBImage) async -> Void

    func makeCoordinator() -> Camera { Camera(onFrame: onFrame) }

    func makeUIView(context: Context) -> PreviewView {
        let view = PreviewView()
        let layer = view.layer as? AVCaptureVideoPreviewLayer
        layer?.session = context.coordinator.session
        layer?.videoGravity = .resizeAspectFill
        context.coordinator.start()
        return view
    }

    func updateUIView(_ view: PreviewView, context: Context) {}

    static func dismantleUIView(_ view: PreviewView, coordinator: Camera) { coordinator.stop() }
}

final class PreviewView: UIView {
    override class var layerClass: AnyClass { AVCaptureVideoPreviewLayer.self }
}

/// Hands over the newest frame when the one before is answered; what comes between is dropped before it is copied. Used on
/// its queue, which makes it Sendable.
final class Camera: NSObject, AVCaptureVideoDataOutputSampleBufferDelegate, @unchecked Sendable {
    let session = AVCaptureSession()
    private let queue = DispatchQueue(label: "camera")
    private let onFrame: @Sendable (RGBImage) async -> Void
    private var isBusy = false

    init(onFrame: @escaping @Sendable (RGBImage) async -> Void) { self.onFrame = onFrame }

    func start() {
        queue.async { [self] in
            guard let device = AVCaptureDevice.default(for: .video), let input = try? AVCaptureDeviceInput(device: device),
                session.canAddInput(input)
            else { return }
            session.sessionPreset = .vga640x480  // more than the model sees
            session.addInput(input)
            let output = AVCaptureVideoDataOutput()
            output.videoSettings = [kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_32BGRA]
            output.alwaysDiscardsLateVideoFrames = true
            output.setSampleBufferDelegate(self, queue: queue)
            if session.canAddOutput(output) { session.addOutput(output) }
            output.connection(with: .video)?.videoOrientation = .portrait  // the sensor lies
            session.startRunning()
        }
    }

    func stop() {
        queue.async { [self] in session.stopRunning() }
    }

    func captureOutput(_ output: AVCaptureOutput, didOutput sampleBuffer: CMSampleBuffer, from connection: AVCaptureConnection) {
        guard !isBusy, let buffer = CMSampleBufferGetImageBuffer(sampleBuffer), let frame = try? RGBImage(buffer) else { return }
        isBusy = true
        Task {
            await onFrame(frame)
            queue.async { [self] in isBusy = false }
        }
    }
}
