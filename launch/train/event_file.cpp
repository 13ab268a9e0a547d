#include "launch/train/event_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>

#include "launch/session/process_id.h"
#include "runtime/error.h"

namespace carillon {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

template <class Number>
std::string little_endian(Number value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// Masked so that the checksum of bytes which contain checksums remains a good one.
uint32_t masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xA282EAD8; }

// Protobuf's wire format: a field's number and wire type, then the value.
std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(0x80 | (value & 0x7F));
  return bytes + static_cast<char>(value);
}
std::string field(int number, int64_t value) {
  return varint(static_cast<uint64_t>(number) << 3) + varint(static_cast<uint64_t>(value));
}
std::string field(int number, double value) {
  return varint(static_cast<uint64_t>(number) << 3 | 1) + little_endian(value);
}
std::string field(int number, float value) {
  return varint(static_cast<uint64_t>(number) << 3 | 5) + little_endian(value);
}
std::string field(int number, std::string_view bytes) {
  return varint(static_cast<uint64_t>(number) << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}

// Event
constexpr int kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
// SessionLog
constexpr int kStatus = 1;
constexpr int64_t kStart = 1;
// Summary, Summary.Value
constexpr int kValue = 1, kTag = 1, kSimpleValue = 2;

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> made{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value & 1 ? 0x82F63B78u : 0u);
      made[i] = value;
    }
    return made;
  }();
  uint32_t crc = ~0u;
  for (const char byte : bytes) crc = (crc >> 8) ^ table[(crc ^ static_cast<uint8_t>(byte)) & 0xFF];
  return ~crc;
}

EventFile::EventFile(const std::string& folder, int64_t next_step) {
  // Another start in the same second by a process with the same number finds the name taken.
  for (int64_t seconds = static_cast<int64_t>(now());; ++seconds) {
    path_ = fmt::format("{}/events.out.tfevents.{:010}.{}.{}", folder, seconds, host_name(), getpid());
    descriptor_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
    if (descriptor_ >= 0) break;
    if (errno != EEXIST)
      fail(ExitCode::kCannotCreate, "cannot be created ({}), {}, make the folder writable", std::strerror(errno),
           path_);
  }
  write_record(field(kWallTime, now()) + field(kFileVersion, "brain.Event:2"));
  write_record(field(kWallTime, now()) + field(kStep, next_step) + field(kSessionLog, field(kStatus, kStart)));
}

EventFile::~EventFile() { close(descriptor_); }

void EventFile::append(int64_t step, double wall_time, const std::vector<std::pair<std::string, double>>& scalars) {
  std::string summary;
  for (const auto& [tag, value] : scalars)
    if (std::isfinite(value))
      summary += field(kValue, field(kTag, tag) + field(kSimpleValue, static_cast<float>(value)));
  if (!summary.empty()) write_record(field(kWallTime, wall_time) + field(kStep, step) + field(kSummary, summary));
}

void EventFile::write_record(const std::string& event) {
  const std::string length = little_endian(static_cast<uint64_t>(event.size()));
  const std::string record =
      length + little_endian(masked(crc32c(length))) + event + little_endian(masked(crc32c(event)));
  for (size_t written = 0; written < record.size();) {
    const ssize_t count = write(descriptor_, record.data() + written, record.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0)
      fail(ExitCode::kInputOutput, "cannot be written ({}), {}, make room and start again", std::strerror(errno),
           path_);
    written += static_cast<size_t>(count);
  }
}

}  // namespace carillon
