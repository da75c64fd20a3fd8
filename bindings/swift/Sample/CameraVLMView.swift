// SPDX-License-Identifier: MIT
// The camera with what the model sees written over it. In an app: add the package, the model file, and a camera usage
// text (NSCameraUsageDescription).
import AVFoundation
import SwiftUI
import TinyVLM

/// Asks about the newest frame, one at a time: what comes while the model is busy is dropped.
@MainActor
final class CameraVLMModel: ObservableObject {
    @Published private(set) var caption = "Loading …"
    private var vlm: TinyVLM?
    private var busy = false

    func load(modelPath: String) async {
        do {
            vlm = try await Task.detached { try TinyVLM(modelPath: modelPath) }.value
            caption = "Looking …"
        } catch {
            caption = "\(error)"
        }
    }

    func process(_ frame: RGBImage) {
        guard let vlm, !busy else { return }
        busy = true
        Task {
            do {
                var text = ""
                for try await piece in vlm.stream(image: frame, prompt: "What objects are visible?", maxTokens: 50) {
                    text += piece
                    caption = text
                }
            } catch {
                caption = "\(error)"
            }
            busy = false
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
            CameraPreview { frame in Task { @MainActor in model.process(frame) } }
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

/// Frames of the back camera, late ones dropped by the camera itself.
struct CameraPreview: UIViewRepresentable {
    let onFrame: @Sendable (RGBImage) -> Void

    func makeCoordinator() -> Camera { Camera(onFrame: onFrame) }

    func makeUIView(context: Context) -> UIView {
        let view = UIView()
        let layer = AVCaptureVideoPreviewLayer(session: context.coordinator.session)
        layer.videoGravity = .resizeAspectFill
        layer.frame = view.bounds
        view.layer.addSublayer(layer)
        context.coordinator.start()
        return view
    }

    func updateUIView(_ view: UIView, context: Context) {
        view.layer.sublayers?.first?.frame = view.bounds
    }

    static func dismantleUIView(_ view: UIView, coordinator: Camera) { coordinator.stop() }
}

final class Camera: NSObject, AVCaptureVideoDataOutputSampleBufferDelegate, @unchecked Sendable {
    let session = AVCaptureSession()
    private let queue = DispatchQueue(label: "camera")
    private let onFrame: @Sendable (RGBImage) -> Void

    init(onFrame: @escaping @Sendable (RGBImage) -> Void) { self.onFrame = onFrame }

    func start() {
        queue.async { [self] in
            guard let device = AVCaptureDevice.default(for: .video), let input = try? AVCaptureDeviceInput(device: device),
                session.canAddInput(input)
            else { return }
            session.addInput(input)
            let output = AVCaptureVideoDataOutput()
            output.videoSettings = [kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_32BGRA]
            output.alwaysDiscardsLateVideoFrames = true
            output.setSampleBufferDelegate(self, queue: queue)
            if session.canAddOutput(output) { session.addOutput(output) }
            session.startRunning()
        }
    }

    func stop() {
        queue.async { [self] in session.stopRunning() }
    }

    func captureOutput(_ output: AVCaptureOutput, didOutput sampleBuffer: CMSampleBuffer, from connection: AVCaptureConnection) {
        guard let buffer = CMSampleBufferGetImageBuffer(sampleBuffer), let frame = try? RGBImage(buffer) else { return }
        onFrame(frame)
    }
}
