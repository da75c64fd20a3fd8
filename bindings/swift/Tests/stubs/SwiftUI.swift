// SPDX-License-Identifier: MIT
import Foundation

@MainActor @preconcurrency public protocol View {
    associatedtype Body: View
    @ViewBuilder @MainActor @preconcurrency var body: Body { get }
}
extension Never: View { public var body: Never { fatalError() } }
public protocol Primitive: View where Body == Never {}
extension Primitive { public var body: Never { fatalError() } }

@resultBuilder public enum ViewBuilder {
    public static func buildBlock<each Content: View>(_ content: repeat each Content) -> TupleView { .init() }
    public static func buildBlock<Content: View>(_ content: Content) -> Content { content }
}
public struct TupleView: Primitive {}
public struct ZStack<Content: View>: Primitive { public init(@ViewBuilder content: () -> Content) {} }
public struct VStack<Content: View>: Primitive { public init(@ViewBuilder content: () -> Content) {} }
public struct Spacer: Primitive { public init() {} }
public struct Text: Primitive { public init(_ text: String) {} }
public struct Modified: Primitive {}
public struct Material: Sendable { public static let thinMaterial = Material() }
public protocol Publisher {}
public struct NotificationPublisher: Publisher {}
extension NotificationCenter { public func publisher(for name: Notification.Name) -> NotificationPublisher { .init() } }
extension View {
    public func padding() -> Modified { .init() }
    public func background(_ material: Material) -> Modified { .init() }
    public func task(_ action: @escaping @Sendable @MainActor () async -> Void) -> Modified { .init() }
    public func onReceive<P: Publisher>(_ publisher: P, perform action: @escaping (Any) -> Void) -> Modified { .init() }
}

public protocol ObservableObject: AnyObject {}
@propertyWrapper public struct Published<Value> {
    public var wrappedValue: Value
    public init(wrappedValue: Value) { self.wrappedValue = wrappedValue }
}
@MainActor @propertyWrapper public struct StateObject<Object: ObservableObject> {
    public let wrappedValue: Object
    public init(wrappedValue thunk: @autoclosure @escaping () -> Object) { wrappedValue = thunk() }
}

@MainActor @preconcurrency public protocol UIViewRepresentable: View where Body == Never {
    associatedtype UIViewType: UIView
    associatedtype Coordinator
    typealias Context = UIViewRepresentableContext<Self>
    func makeCoordinator() -> Coordinator
    func makeUIView(context: Context) -> UIViewType
    func updateUIView(_ view: UIViewType, context: Context)
    static func dismantleUIView(_ view: UIViewType, coordinator: Coordinator)
}
extension UIViewRepresentable { public var body: Never { fatalError() } }
public struct UIViewRepresentableContext<Representable: UIViewRepresentable> { public let coordinator: Representable.Coordinator }

@MainActor open class UIView {
    public init() {}
    open class var layerClass: AnyClass { CALayer.self }
    public let layer = CALayer()
}
@MainActor public enum UIApplication {
    public static let didReceiveMemoryWarningNotification = Notification.Name("memory")
}
open class CALayer { public init() {} }
