// The definition of every op in plain loops. Slow; the other backends are tested against it. Files are named after the
// ops.
#pragma once

#include "runtime/backend.h"

namespace carillon {

class ReferenceBackend : public Backend {
 public:
  DeviceDescription describe() const override;
  Buffer allocate(size_t bytes) override { return Buffer::host(bytes); }
  void upload(Tensor device, Tensor host) override { copy(device, host); }
  void download(Tensor host, Tensor device) override { copy(host, device); }
  void synchronize() override {}

  CARILLON_OPS(CARILLON_DECLARE_OP)
};

}  // namespace carillon
