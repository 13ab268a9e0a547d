#include "data/tokenizer/sentence_piece_file.h"

#include <cstring>
#include <functional>
#include <string_view>

#include "runtime/error.h"

namespace carillon {
namespace {

// A message in protocol buffers' wire format: fields in any order, each with a number and a kind of value.
class Message {
 public:
  Message(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  struct Field {
    uint64_t number = 0;
    uint64_t integer = 0;  // for kinds 0 and 5
    std::string_view bytes;
  };
  void each(const std::function<void(const Field&)>& take) {
    while (at_ < bytes_.size()) {
      const uint64_t tag = varint();
      Field field{tag >> 3, 0, {}};
      switch (tag & 7) {
        case 0:
          field.integer = varint();
          break;
        case 1:
          field.bytes = read(8);
          break;
        case 2:
          field.bytes = read(varint());
          break;
        case 5: {
          uint32_t word = 0;
          std::memcpy(&word, read(4).data(), 4);
          field.integer = word;
          break;
        }
        default:
          damaged();
      }
      take(field);
    }
  }

 private:
  [[noreturn]] void damaged() const {
    fail(ExitCode::kBadInput, "is not a SentencePiece model, {}, fetch it again", where_);
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ >= bytes_.size()) damaged();
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    damaged();
  }
  std::string_view read(uint64_t size) {
    if (size > bytes_.size() - at_) damaged();
    const std::string_view part = bytes_.substr(at_, size);
    at_ += size;
    return part;
  }

  std::string_view bytes_;
  const std::string& where_;
  size_t at_ = 0;
};

}  // namespace

SentencePieceFile SentencePieceFile::parse(const std::string& bytes, const std::string& where) {
  SentencePieceFile file;
  const auto read_piece = [&](std::string_view message) {
    Piece piece;
    Message(message, where).each([&](const Message::Field& field) {
      if (field.number == 1) piece.text = field.bytes;
      if (field.number == 2) {
        const auto word = static_cast<uint32_t>(field.integer);
        std::memcpy(&piece.score, &word, 4);
      }
      if (field.number == 3) piece.kind = static_cast<int32_t>(field.integer);
    });
    file.pieces.push_back(std::move(piece));
  };
  Message(bytes, where).each([&](const Message::Field& field) {
    if (field.number == 1) read_piece(field.bytes);
    if (field.number == 2)
      Message(field.bytes, where).each([&](const Message::Field& setting) {
        if (setting.number == 3) file.byte_pairs = setting.integer == 2;
      });
    if (field.number == 3)
      Message(field.bytes, where).each([&](const Message::Field& setting) {
        if (setting.number == 2) file.maps_characters = !setting.bytes.empty();
        if (setting.number == 3) file.blank_in_front = setting.integer != 0;
        if (setting.number == 4) file.removes_extra_blanks = setting.integer != 0;
      });
  });
  return file;
}

}  // namespace carillon
