// SPDX-License-Identifier: MIT
@_exported import CoreVideo
@_exported import Foundation
import SwiftUI

public struct AVMediaType: Sendable { public static let video = AVMediaType() }
public final class AVCaptureDevice {
    public static func `default`(for type: AVMediaType) -> AVCaptureDevice? { nil }
    public static func requestAccess(for type: AVMediaType) async -> Bool { false }
}
open class AVCaptureInput { public init() {} }
public final class AVCaptureDeviceInput: AVCaptureInput { public init(device: AVCaptureDevice) throws {} }
open class AVCaptureOutput {
    public init() {}
    public func connection(with type: AVMediaType) -> AVCaptureConnection? { nil }
}
public enum AVCaptureVideoOrientation: Int, Sendable { case portrait = 1 }
public final class AVCaptureConnection { public var videoOrientation = AVCaptureVideoOrientation.portrait }
public final class CMSampleBuffer {}
public func CMSampleBufferGetImageBuffer(_ buffer: CMSampleBuffer) -> CVPixelBuffer? { nil }
public protocol AVCaptureVideoDataOutputSampleBufferDelegate: AnyObject {
    func captureOutput(_ output: AVCaptureOutput, didOutput sampleBuffer: CMSampleBuffer, from connection: AVCaptureConnection)
}
public final class AVCaptureVideoDataOutput: AVCaptureOutput {
    public override init() {}
    public var videoSettings: [String: Any] = [:]
    public var alwaysDiscardsLateVideoFrames = true
    public func setSampleBufferDelegate(_ delegate: (any AVCaptureVideoDataOutputSampleBufferDelegate)?, queue: DispatchQueue?) {}
}
public final class AVCaptureSession {
    public struct Preset: Sendable { public static let vga640x480 = Preset() }
    public init() {}
    public var sessionPreset = Preset.vga640x480
    public func canAddInput(_ input: AVCaptureInput) -> Bool { true }
    public func addInput(_ input: AVCaptureInput) {}
    public func canAddOutput(_ output: AVCaptureOutput) -> Bool { true }
    public func addOutput(_ output: AVCaptureOutput) {}
    public func startRunning() {}
    public func stopRunning() {}
}
public enum AVLayerVideoGravity: Sendable { case resizeAspectFill }
public final class AVCaptureVideoPreviewLayer: CALayer {
    public var session: AVCaptureSession?
    public var videoGravity = AVLayerVideoGravity.resizeAspectFill
}
