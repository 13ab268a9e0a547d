#include "data/checkpoint/aggregated_write.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "data/checkpoint/tensor_hash.h"
#include "runtime/backend.h"
#include "runtime/check.h"

namespace carillon {
namespace {

// Tensors of about this many bytes are sent at a time.
constexpr int64_t kBytesAtOnce = int64_t{256} << 20;

// The bytes of a rectangle in the file: `bytes` bytes from `column` on in each of the rows [first_row, end_row), which
// are row_bytes long.
struct Placed {
  int64_t first_row = 0, end_row = 0, column = 0, bytes = 0;
};

int64_t row_bytes_of(const TensorPart& part) {
  const auto& shape = part.rectangle.global_shape;
  int64_t bytes = size_of(part.type);
  for (size_t dim = 1; dim < shape.size(); ++dim) bytes *= shape[dim];
  return bytes;
}

Placed placed(const TensorPart& part) {
  const Rectangle& r = part.rectangle;
  if (r.empty()) return {};
  CHECK(r.extent.size() <= 2, "tensors have one or two dims", part.name);
  const int64_t width = size_of(part.type);
  Placed result{r.offset[0], r.offset[0] + r.extent[0], 0, width};
  if (r.extent.size() == 2) result.column = r.offset[1] * width, result.bytes = r.extent[1] * width;
  return result;
}

// For each block, the rank whose machine writes it, and whether another machine holds bytes of it.
struct Blocks {
  std::vector<int> owner;
  std::vector<bool> shared;
};

Blocks blocks_of(const std::vector<TensorPart>& parts, const std::vector<Placed>& all,
                 const std::vector<int>& machine) {
  Blocks blocks;
  for (size_t i = 0; i < parts.size(); ++i)
    for (size_t rank = 0; rank < machine.size(); ++rank) {
      const Placed& at = all[rank * parts.size() + i];
      if (at.first_row == at.end_row) continue;
      const int64_t row = row_bytes_of(parts[i]);
      const auto first = static_cast<size_t>((parts[i].place + at.first_row * row) / kSharedBlock);
      const auto last = static_cast<size_t>((parts[i].place + at.end_row * row - 1) / kSharedBlock);
      if (blocks.owner.size() <= last) {
        blocks.owner.resize(last + 1, -1);
        blocks.shared.resize(last + 1, false);
      }
      for (size_t block = first; block <= last; ++block) {
        int& owner = blocks.owner[block];
        if (owner < 0) owner = static_cast<int>(rank);
        if (machine[static_cast<size_t>(owner)] != machine[rank]) blocks.shared[block] = true;
      }
    }
  return blocks;
}

// Bytes that are contiguous in the file and lie in one block.
struct Piece {
  int64_t part, place, bytes;
};

template <class Visit>
void for_each_piece(const TensorPart& part, int64_t number, const Placed& at, Visit visit) {
  const int64_t row = row_bytes_of(part);
  const bool whole_rows = at.bytes == row;
  const int64_t runs = whole_rows ? 1 : at.end_row - at.first_row;
  const int64_t run = whole_rows ? (at.end_row - at.first_row) * row : at.bytes;
  for (int64_t i = 0; i < runs; ++i) {
    const int64_t begin = part.place + (at.first_row + i) * row + at.column;
    for (int64_t done = 0, bytes = 0; done < run; done += bytes) {
      bytes = std::min(run - done, kSharedBlock - (begin + done) % kSharedBlock);
      visit(Piece{number, begin + done, bytes}, i * run + done);
    }
  }
}

// All that one batch sends to one rank: the pieces, and their bytes one after another.
struct Message {
  std::vector<Piece> pieces;
  std::vector<char> bytes;
};

Tensor bytes_tensor(std::vector<char>& bytes) {
  return bytes.empty() ? Tensor() : Tensor(bytes.data(), DType::kUInt8, {static_cast<int64_t>(bytes.size())});
}
Tensor pieces_tensor(std::vector<Piece>& pieces) {
  return pieces.empty() ? Tensor() : Tensor(pieces.data(), DType::kInt64, {3 * static_cast<int64_t>(pieces.size())});
}

// Sends every rank's messages to their destinations; returns the received message of each rank.
std::vector<Message> exchange(Communicator& world, std::vector<Message>& out) {
  const int ranks = world.size(), me = world.rank();
  std::vector<int64_t> mine, counts(static_cast<size_t>(2 * ranks * ranks));
  for (const Message& message : out) {
    mine.push_back(static_cast<int64_t>(message.pieces.size()));
    mine.push_back(static_cast<int64_t>(message.bytes.size()));
  }
  world.all_gather(Tensor::of(counts, {2 * ranks * ranks}), Tensor::of(mine, {2 * ranks}));
  std::vector<Message> in(static_cast<size_t>(ranks));
  for (int k = 1; k < ranks; ++k) {
    const int to = (me + k) % ranks, from = (me - k + ranks) % ranks;
    Message& send = out[static_cast<size_t>(to)];
    Message& receive = in[static_cast<size_t>(from)];
    const size_t count = static_cast<size_t>(2 * (from * ranks + me));
    receive.pieces.resize(static_cast<size_t>(counts[count]));
    receive.bytes.resize(static_cast<size_t>(counts[count + 1]));
    world
        .start_exchange(pieces_tensor(send.pieces), send.pieces.empty() ? -1 : to, pieces_tensor(receive.pieces),
                        receive.pieces.empty() ? -1 : from, Communicator::Kind::kMessage)
        ->wait();
    world
        .start_exchange(bytes_tensor(send.bytes), send.bytes.empty() ? -1 : to, bytes_tensor(receive.bytes),
                        receive.bytes.empty() ? -1 : from, Communicator::Kind::kMessage)
        ->wait();
  }
  return in;
}

}  // namespace

void write_aggregated(Communicator& world, const std::vector<int>& machine, TensorSink& writer,
                      std::vector<TensorPart>& parts) {
  const size_t me = static_cast<size_t>(world.rank());
  std::vector<Placed> mine, all(parts.size() * machine.size());
  for (const TensorPart& part : parts) mine.push_back(placed(part));
  world.all_gather(Tensor(all.data(), DType::kInt64, {4 * static_cast<int64_t>(all.size())}),
                   Tensor(mine.data(), DType::kInt64, {4 * static_cast<int64_t>(mine.size())}));
  const Blocks blocks = blocks_of(parts, all, machine);
  const auto is_elsewhere = [&](int64_t place) {
    const auto block = static_cast<size_t>(place / kSharedBlock);
    return blocks.shared[block] && machine[static_cast<size_t>(blocks.owner[block])] != machine[me];
  };

  // After a disk error a rank stops writing but keeps exchanging, because the others wait for its bytes.
  std::exception_ptr error;
  const auto attempt = [&](const auto& body) {
    if (error) return;
    try {
      body();
    } catch (...) {
      error = std::current_exception();
    }
  };
  std::vector<TensorPart> straight;
  std::vector<size_t> straight_numbers;
  std::vector<char> staged;
  for (size_t begin = 0, end = 0; begin < parts.size(); begin = end) {
    std::vector<Message> out(machine.size());
    for (int64_t bytes = 0; end < parts.size() && bytes < kBytesAtOnce; ++end) {
      TensorPart& part = parts[end];
      bytes += row_bytes_of(part) * (part.rectangle.global_shape.empty() ? 1 : part.rectangle.global_shape[0]);
      const Placed& at = mine[end];
      const auto number = static_cast<int64_t>(end);
      bool travels = false;
      if (!part.rectangle.empty())
        for_each_piece(part, number, at, [&](const Piece& piece, int64_t) { travels |= is_elsewhere(piece.place); });
      if (!travels) {
        straight.push_back(part);
        straight_numbers.push_back(end);
        continue;
      }
      attempt([&] {
        const char* data = static_cast<const char*>(part.from);
        const int64_t size = part.rectangle.count() * size_of(part.type);
        if (part.device != nullptr) {
          staged.resize(static_cast<size_t>(size));
          const Tensor host(staged.data(), DType::kUInt8, {size});
          part.device->download(host, Tensor(const_cast<void*>(part.from), DType::kUInt8, {size}));
          data = staged.data();
        }
        part.hash = part.hashed ? hash_rectangle(part.name, part.rectangle, data, size_of(part.type)) : 0;
        for_each_piece(part, number, at, [&](const Piece& piece, int64_t from) {
          if (!is_elsewhere(piece.place)) return writer.write_bytes(part, piece.place, data + from, piece.bytes);
          const auto block = static_cast<size_t>(piece.place / kSharedBlock);
          Message& message = out[static_cast<size_t>(blocks.owner[block])];
          message.pieces.push_back(piece);
          message.bytes.insert(message.bytes.end(), data + from, data + from + piece.bytes);
        });
      });
    }
    const std::vector<Message> in = exchange(world, out);
    attempt([&] {
      for (const Message& message : in) {
        int64_t from = 0;
        for (const Piece& piece : message.pieces) {
          writer.write_bytes(parts[static_cast<size_t>(piece.part)], piece.place, message.bytes.data() + from,
                             piece.bytes);
          from += piece.bytes;
        }
      }
    });
  }
  attempt([&] { writer.write(straight); });
  for (size_t i = 0; i < straight.size(); ++i) parts[straight_numbers[i]].hash = straight[i].hash;
  if (error) std::rethrow_exception(error);
}

}  // namespace carillon
