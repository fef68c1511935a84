// tests/kernels/cuda/tree_attention_test.cu
// SPDX-License-Identifier: Apache-2.0
//
// Tree attention against loops in f64: forests whose ancestors lie in the pool already or are stored by the same call.
#include "tests/kernels/cuda/attention_problems.h"

namespace ting::cuda {
namespace {

// `old_rows` of earlier calls lie in the pool; new row r hangs under row parent[r] of all (old ones first), or under
// none.
template <typename T>
struct Forest {
  Forest(int old_rows_in, std::vector<int> parents, int heads_in, int width_in)
      : old_rows(old_rows_in), U(static_cast<int>(parents.size())), heads(heads_in), width(width_in), random(8) {
    D = heads * width;
    pool_rows = old_rows + U + 5;
    pool = RandomRows<T>(pool_rows, 2 * D, 2 * D, 1, random);
    qkv = RandomRows<T>(U, 3 * D, 3 * D, 1, random);
    std::vector<int32_t> places(pool_rows);
    std::iota(places.begin(), places.end(), 0);
    std::shuffle(places.begin(), places.end(), random);
    slots.assign(places.begin() + old_rows, places.begin() + old_rows + U);
    for (int r = 0; r < U; ++r) {
      std::vector<int32_t> chain;
      for (int row = old_rows + r; row >= 0; row = row < old_rows ? row - 1 : parents[row - old_rows]) {
        chain.push_back(places[row]);
      }
      ancestors.insert(ancestors.end(), chain.rbegin(), chain.rend());
      ancestor_offsets.push_back(static_cast<int32_t>(ancestors.size()));
    }
  }

  // The context of all `rows`; the pool as it is afterwards goes to `pool`. `stored`: it is so already, and q is alone.
  std::vector<T> Run(int padded_rows, bool stored = false) {
    const int rows = U + padded_rows;
    if (stored) StoreRows();
    std::vector<T> padded = qkv;
    for (int r = 0; stored && r < U; ++r) std::fill_n(&padded[r * 3 * D + D], 2 * D, Poison<T>());
    padded.resize(rows * 3 * D, Poison<T>());
    std::vector<int32_t> padded_slots = slots, padded_offsets = ancestor_offsets;
    padded_slots.resize(rows, 1 << 30);
    padded_offsets.resize(rows + 1, -1);
    const DeviceArray<T> d_qkv(padded), d_pool(pool), d_context(rows * D);
    const DeviceArray<int32_t> d_slots(padded_slots), d_offsets(padded_offsets), d_ancestors(ancestors);
    const DeviceArray<int32_t> d_num_rows(std::vector<int32_t>{U});
    TreeAttentionArgs args;
    args.dtype = DTypeOf<T>();
    args.heads = heads;
    args.head_width = width;
    args.scale = 0.125F;
    args.context = d_context.data();
    args.context_stride = D;
    args.dependent = true;
    args.qkv = d_qkv.data();
    args.qkv_stride = 3 * D;
    args.slots = d_slots.data();
    args.ancestor_offsets = d_offsets.data();
    args.ancestors = d_ancestors.data();
    args.num_rows = d_num_rows.data();
    args.rows = rows;
    args.pool = d_pool.data();
    args.pool_stride = 2 * D;
    args.store = !stored;
    EXPECT_OK(LaunchTreeAttention(args, nullptr));
    const std::vector<T> context = d_context.Download();
    for (size_t i = U * D; i < context.size(); ++i) EXPECT_TRUE(SameBits(context[i], Poison<T>())) << i;
    StoreRows();
    EXPECT_EQ(memcmp(d_pool.Download().data(), pool.data(), pool.size() * sizeof(T)), 0) << "the pool's rows";
    return {context.begin(), context.begin() + U * D};
  }

  void StoreRows() {
    for (int r = 0; r < U; ++r) std::copy_n(&qkv[r * 3 * D + D], 2 * D, &pool[slots[r] * 2 * D]);
  }

  double WorstError(const std::vector<T>& context) const {  // after Run
    const std::vector<float> exact_pool = Floats(pool), exact_qkv = Floats(qkv);
    double worst = 0;
    for (int r = 0; r < U; ++r) {
      for (int h = 0; h < heads; ++h) {
        const auto key = [&](int j) { return &exact_pool[ancestors[j] * 2 * D + h * width]; };
        const std::vector<double> expected = AttendInF64(
            ancestor_offsets[r], ancestor_offsets[r + 1], width,
            [&](int j) { return 0.125 * DotInF64(&exact_qkv[r * 3 * D + h * width], key(j), width); },
            [&](int j) { return key(j) + D; });
        worst = std::max(worst, RelativeError(&context[r * D + h * width], expected.data(), width));
      }
    }
    return worst;
  }

  int old_rows, U, heads, width, pool_rows;
  int64_t D;
  std::mt19937 random;
  std::vector<T> pool, qkv;
  std::vector<int32_t> slots, ancestor_offsets = {0}, ancestors;
};

// One rounding to the dtype, with a factor of four for rows whose values cancel.
template <typename T>
double Bound() {
  if constexpr (std::is_same_v<T, __half>) return 4 * std::exp2(-11);
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return 4 * std::exp2(-8);
  return 1e-5;
}

std::vector<int> RandomParents(int old_rows, int rows) {
  std::mt19937 random(9);
  std::vector<int> parents(rows);
  for (int r = 0; r < rows; ++r) parents[r] = static_cast<int>(random() % (old_rows + r + 1)) - 1;
  return parents;
}
std::vector<int> Chain(int rows) {
  std::vector<int> parents(rows);
  std::iota(parents.begin(), parents.end(), -1);
  return parents;
}

template <typename T>
class TreeAttentionTest : public testing::Test {
 protected:
  void SetUp() override { TING_SKIP_WITHOUT_GPU(); }

  static void Check(Forest<T> forest, int padded_rows = 0) {
    const std::vector<T> context = forest.Run(padded_rows);
    EXPECT_LE(forest.WorstError(context), Bound<T>())
        << forest.U << " rows, " << forest.heads << " heads of " << forest.width;
  }
};
using Types = testing::Types<float, __half, __nv_bfloat16>;
TYPED_TEST_SUITE(TreeAttentionTest, Types);

TYPED_TEST(TreeAttentionTest, OneRow) { this->Check({0, {-1}, 4, 64}); }
TYPED_TEST(TreeAttentionTest, ChainsOfAllShortLengths) { this->Check({0, Chain(140), 4, 64}); }
TYPED_TEST(TreeAttentionTest, LongChain) {
  for (const int heads : {2, 4}) this->Check({1998, {1997, 1997}, heads, 64});
}
TYPED_TEST(TreeAttentionTest, ForestOfOldAndNewRows) { this->Check({20, RandomParents(20, 333), 4, 64}, 17); }
TYPED_TEST(TreeAttentionTest, HeadWidths) {
  for (const int width : {8, 32, 48, 80, 96, 128}) this->Check({7, RandomParents(7, 60), 3, width}, 1);
}
TYPED_TEST(TreeAttentionTest, HeadsThatFillWarps) {  // 256 columns, and twice as many
  for (const int width : {32, 64, 128}) {
    for (const int slabs : {1, 2}) this->Check({7, RandomParents(7, 60), slabs * 256 / width, width}, 3);
  }
}
TYPED_TEST(TreeAttentionTest, RowsThatAreStoredAlready) {
  for (const int heads : {3, 4}) {
    Forest<TypeParam> forest(20, RandomParents(20, 100), heads, 64);
    EXPECT_LE(forest.WorstError(forest.Run(5, true)), Bound<TypeParam>()) << heads << " heads";
  }
}
TYPED_TEST(TreeAttentionTest, NoRows) { this->Check({3, {}, 4, 64}, 9); }
TYPED_TEST(TreeAttentionTest, BitsDoNotDependOnOtherRows) {
  Forest<TypeParam> all(20, RandomParents(20, 100), 4, 64);
  const std::vector<TypeParam> context = all.Run(0);
  for (const int r : {0, 1, 50, 99}) {
    Forest<TypeParam> alone = all;  // the pool holds all rows by now
    alone.U = 1;
    alone.qkv.assign(&all.qkv[r * 3 * all.D], &all.qkv[(r + 1) * 3 * all.D]);
    alone.slots = {all.slots[r]};
    alone.ancestors.assign(&all.ancestors[all.ancestor_offsets[r]],
                           &all.ancestors[all.ancestor_offsets[r + 1] - 1] + 1);
    alone.ancestor_offsets = {0, static_cast<int32_t>(alone.ancestors.size())};
    EXPECT_EQ(memcmp(alone.Run(3).data(), &context[r * all.D], all.D * sizeof(TypeParam)), 0) << r;
  }
}

TEST(TreeAttentionF32, WidthsThatAreNoMultiplesOfEight) {
  TING_SKIP_WITHOUT_GPU();
  for (const int width : {1, 5, 36, 130, 250}) {
    Forest<float> forest(7, RandomParents(7, 60), 3, width);
    EXPECT_LE(forest.WorstError(forest.Run(0)), 1e-5) << width;
  }
}

}  // namespace
}  // namespace ting::cuda
