// SPDX-License-Identifier: MIT
public protocol MTLDevice: AnyObject { func makeCommandQueue() -> (any MTLCommandQueue)? }
public protocol MTLCommandQueue: AnyObject { var device: any MTLDevice { get } }

private final class Device: MTLDevice {
    func makeCommandQueue() -> (any MTLCommandQueue)? { Queue(self) }
}
private final class Queue: MTLCommandQueue {
    let device: any MTLDevice
    init(_ device: Device) { self.device = device }
}
public func MTLCreateSystemDefaultDevice() -> (any MTLDevice)? { Device() }
