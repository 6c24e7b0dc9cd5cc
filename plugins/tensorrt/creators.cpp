// What TensorRT looks up in this library: the creators of its plugins, and where to leave a logger.
#include <NvInferRuntime.h>

#include "gemm_plugin.hpp"
#include "log.hpp"
#include "quantize_plugin.hpp"

namespace nvfp4 {

namespace {

template <class Made>
class Creator final : public nvinfer1::IPluginCreatorV3One {
 public:
  Creator() : fields_(Made::fields()) {}

  const char* getPluginName() const noexcept override { return Made::NAME; }
  const char* getPluginVersion() const noexcept override { return PLUGIN_VERSION; }
  const char* getPluginNamespace() const noexcept override { return PLUGIN_NAMESPACE; }
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return &fields_; }

  nvinfer1::IPluginV3* createPlugin(const char* name, const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase phase) noexcept override {
    return guarded<nvinfer1::IPluginV3*>(Made::NAME, nullptr, [&]() -> nvinfer1::IPluginV3* {
      try {
        FieldReader reader(fields);
        return Made::create(reader, phase);
      } catch (const Error& error) {  // only here is the layer's name known
        throw Error((name == nullptr || *name == 0 ? "" : "layer " + std::string(name) + ": ") + error.what());
      }
    });
  }

 private:
  nvinfer1::PluginFieldCollection fields_;
};

}  // namespace

}  // namespace nvfp4

#define NVFP4_EXPORT extern "C" __attribute__((visibility("default")))

NVFP4_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(std::int32_t& count) {
  static nvfp4::Creator<nvfp4::QuantizePlugin> quantize;
  static nvfp4::Creator<nvfp4::GemmPlugin> gemm;
  static nvinfer1::IPluginCreatorInterface* const all[] = {&quantize, &gemm};
  count = static_cast<std::int32_t>(std::size(all));
  return all;
}

NVFP4_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { nvfp4::set_logger_finder(finder); }
