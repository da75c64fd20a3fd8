// SPDX-License-Identifier: MIT
// What TinyVLM uses of Core ML. A model computes what the test says, on the units that it does not refuse.
import Foundation

public enum MLComputeUnits: Int, Sendable { case cpuOnly, cpuAndGPU, all, cpuAndNeuralEngine }
public final class MLModelConfiguration {
    public init() {}
    public var computeUnits = MLComputeUnits.all
}
public protocol MLFeatureProvider { func featureValue(for featureName: String) -> MLFeatureValue? }
public final class MLFeatureValue {
    public let multiArrayValue: MLMultiArray?
    public init(multiArray value: MLMultiArray) { multiArrayValue = value }
}
public final class MLDictionaryFeatureProvider: MLFeatureProvider {
    private let values: [String: MLFeatureValue]
    public init(dictionary: [String: Any]) throws { values = dictionary.compactMapValues { $0 as? MLFeatureValue } }
    public func featureValue(for featureName: String) -> MLFeatureValue? { values[featureName] }
}
public enum MLMultiArrayDataType: Int, Sendable { case float32, float16, double }
public final class MLMultiArray {
    public let shape: [NSNumber], dataPointer: UnsafeMutableRawPointer
    public var count: Int { shape.reduce(1) { $0 * $1.intValue } }
    public init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws {
        self.shape = shape
        dataPointer = .allocate(byteCount: shape.reduce(4) { $0 * $1.intValue }, alignment: 64)
    }
    deinit { dataPointer.deallocate() }
}
public struct MLShapedArray<Scalar> {
    public let scalars: [Scalar]
    public init(converting multiArray: MLMultiArray) {
        let values = multiArray.dataPointer.assumingMemoryBound(to: Scalar.self)
        scalars = Array(UnsafeBufferPointer(start: values, count: multiArray.count))
    }
}
public struct MLModelMetadataKey: Hashable, Sendable {
    let name: String
    public static let creatorDefinedKey = MLModelMetadataKey(name: "MLModelCreatorDefinedKey")
}
public final class MLModelDescription { public let metadata: [MLModelMetadataKey: Any] = [.creatorDefinedKey: MLModel.creatorDefined] }
public final class MLModel {
    public static var program: ([String: MLMultiArray]) throws -> [String: MLMultiArray] = { _ in [:] }
    public static var creatorDefined: [String: String] = [:]
    public static var refused: [MLComputeUnits] = []
    public static var opened: [MLComputeUnits] = []
    public static var compiled: [URL] = []

    public let modelDescription = MLModelDescription()

    public init(contentsOf url: URL, configuration: MLModelConfiguration) throws {
        MLModel.opened.append(configuration.computeUnits)
        if MLModel.refused.contains(configuration.computeUnits) { throw CocoaError(.featureUnsupported) }
    }
    /// A folder, for its caller to remove.
    public static func compileModel(at url: URL) throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString + ".mlmodelc")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        compiled.append(folder)
        return folder
    }
    public func prediction(from input: any MLFeatureProvider) throws -> any MLFeatureProvider {
        let inputs = ["pixels": input.featureValue(for: "pixels")!.multiArrayValue!]
        return try MLDictionaryFeatureProvider(dictionary: MLModel.program(inputs).mapValues { MLFeatureValue(multiArray: $0) })
    }
}
