// Writes TensorBoard's event files: scalars by step and time, appended while a run progresses.
//
// A record is the length of its bytes (uint64), a masked CRC-32C of those eight bytes, the bytes, and a masked CRC-32C
// of the bytes. The bytes are a protobuf message `Event`, of which four fields are needed: wall_time, step, and one of
// file_version ("brain.Event:2", the first record), session_log (a start: readers discard what older files contain for
// this step and later ones) and summary (tags with their values). These few fields are encoded by hand: protobuf would
// bring its compiler, a library and third-party schema files for forty lines of code.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace carillon {

class EventFile {
 public:
  // Creates FOLDER/events.out.tfevents.SECONDS.HOST.PID for a run whose next step is `next_step`. Throws error 73.
  EventFile(const std::string& folder, int64_t next_step);
  ~EventFile();
  EventFile(const EventFile&) = delete;

  // Appends one value per tag; values that are not finite are left out. They are in the file when this returns. Error
  // 74.
  void append(int64_t step, double wall_time, const std::vector<std::pair<std::string, double>>& scalars);

 private:
  void write_record(const std::string& event);

  std::string path_;
  int descriptor_ = -1;
};

// CRC-32C as in iSCSI (Castagnoli: reflected polynomial 0x82F63B78).
uint32_t crc32c(std::string_view bytes);

}  // namespace carillon
