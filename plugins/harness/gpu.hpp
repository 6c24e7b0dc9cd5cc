// The GPU as the harness uses it: buffers with guards behind them, streams, graphs. Through the driver, like the
// plugin itself.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <string>
#include <vector>

namespace harness {

using Bytes = std::vector<std::uint8_t>;

// Makes the first GPU's primary context current, as TensorRT's caller would by using the CUDA runtime.
class Gpu {
 public:
  Gpu();
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;
  std::string name() const;

 private:
  CUdevice device_ = 0;
};

// Device memory. All of it, and a guard behind it, starts as poison.
class Buffer {
 public:
  static constexpr std::uint8_t POISON = 0xA5;

  explicit Buffer(std::size_t bytes);
  explicit Buffer(const Bytes& content);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void* pointer() const { return reinterpret_cast<void*>(memory_); }
  void poison();
  Bytes read() const;
  bool guard_intact() const;

 private:
  CUdeviceptr memory_ = 0;
  std::size_t bytes_;
};

// A stream that does not wait for the default stream, as TensorRT's users make them.
class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  CUstream handle() const { return stream_; }
  void wait() const;

 private:
  CUstream stream_ = nullptr;
};

// What was launched on a stream between `begin` and the constructor of this, to be launched again.
// The strictest capture mode: an allocation or a wait anywhere in the process breaks it.
class Graph {
 public:
  static void begin(const Stream& stream);
  explicit Graph(const Stream& stream);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void launch(const Stream& stream) const;
  std::size_t nodes() const;

 private:
  CUgraph graph_ = nullptr;
  CUgraphExec executable_ = nullptr;
};

}  // namespace harness
