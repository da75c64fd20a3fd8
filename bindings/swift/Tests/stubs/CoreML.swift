// SPDX-License-Identifier: MIT
import Foundation

public enum MLComputeUnits: Int, Sendable { case cpuOnly, cpuAndGPU, all, cpuAndNeuralEngine }
public final class MLModelConfiguration {
    public init() {}
    public var computeUnits = MLComputeUnits.all
}
public protocol MLFeatureProvider { func featureValue(for featureName: String) -> MLFeatureValue? }
public final class MLFeatureValue {
    public init(multiArray value: MLMultiArray) {}
    public var multiArrayValue: MLMultiArray? { nil }
}
public final class MLDictionaryFeatureProvider: MLFeatureProvider {
    public init(dictionary: [String: Any]) throws {}
    public func featureValue(for featureName: String) -> MLFeatureValue? { nil }
}
public enum MLMultiArrayDataType: Int, Sendable { case float32, float16, double }
public final class MLMultiArray {
    public init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws {}
    public var count: Int { 0 }
    public var dataPointer: UnsafeMutableRawPointer { .init(bitPattern: 64)! }
}
public struct MLShapedArray<Scalar> {
    public init(converting multiArray: MLMultiArray) {}
    public var scalars: [Scalar] { [] }
}
public final class MLModel {
    public init(contentsOf url: URL, configuration: MLModelConfiguration) throws {}
    public static func compileModel(at url: URL) throws -> URL { url }
    public func prediction(from input: any MLFeatureProvider) throws -> any MLFeatureProvider {
        try MLDictionaryFeatureProvider(dictionary: [:])
    }
}
