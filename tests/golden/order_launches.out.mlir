#map = affine_map<(d0, d1) -> (d0, d1)>
module attributes {keras.stage = "regions"} {
  func.func private @dense_matmul_0(%arg0: tensor<64x32xf32>) -> tensor<32x32xf32> attributes {keras.kernel = "matmul", keras.layers = ["dense/grad"]} {
    %0 = "keras.matmul"(%arg0, %arg0) {transpose_a = true, transpose_b = false} : (tensor<64x32xf32>, tensor<64x32xf32>) -> tensor<32x32xf32>
    return %0 : tensor<32x32xf32>
  }
  func.func private @dense_1_exp_1(%arg0: tensor<64x32xf32>) -> tensor<64x32xf32> attributes {keras.kernel = "loop", keras.layers = ["dense_1/grad"]} {
    %0 = tensor.empty() : tensor<64x32xf32>
    %1 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0 : tensor<64x32xf32>) outs(%0 : tensor<64x32xf32>) attrs =  {keras.op = "exp"} {
    ^bb0(%in: f32, %out: f32):
      %2 = math.exp %in fastmath<reassoc,nsz,contract> : f32
      linalg.yield %2 : f32
    } -> tensor<64x32xf32>
    return %1 : tensor<64x32xf32>
  }
  func.func private @dense_1_matmul_2(%arg0: tensor<64x32xf32>, %arg1: tensor<64x32xf32>) -> tensor<32x32xf32> attributes {keras.kernel = "matmul", keras.layers = ["dense_1/grad"]} {
    %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = true, transpose_b = false} : (tensor<64x32xf32>, tensor<64x32xf32>) -> tensor<32x32xf32>
    return %0 : tensor<32x32xf32>
  }
  func.func private @optimizer_sub_3(%arg0: tensor<32x32xf32>, %arg1: tensor<32x32xf32>) -> tensor<32x32xf32> attributes {keras.kernel = "loop", keras.layers = ["optimizer"], keras.reason = ["dense_matmul_0: takes no epilogue"]} {
    %0 = tensor.empty() : tensor<32x32xf32>
    %1 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0, %arg1 : tensor<32x32xf32>, tensor<32x32xf32>) outs(%0 : tensor<32x32xf32>) attrs =  {keras.op = "sub"} {
    ^bb0(%in: f32, %in_0: f32, %out: f32):
      %2 = arith.subf %in, %in_0 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %2 : f32
    } -> tensor<32x32xf32>
    return %1 : tensor<32x32xf32>
  }
  func.func private @other_maximum_4(%arg0: tensor<32x32xf32>, %arg1: tensor<32x32xf32>) -> tensor<32x32xf32> attributes {keras.kernel = "loop", keras.layers = ["other"], keras.reason = ["dense_1_matmul_2: takes no epilogue"]} {
    %0 = tensor.empty() : tensor<32x32xf32>
    %1 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0, %arg1 : tensor<32x32xf32>, tensor<32x32xf32>) outs(%0 : tensor<32x32xf32>) attrs =  {keras.op = "maximum"} {
    ^bb0(%in: f32, %in_0: f32, %out: f32):
      %2 = arith.maximumf %in, %in_0 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %2 : f32
    } -> tensor<32x32xf32>
    return %1 : tensor<32x32xf32>
  }
  func.func @main(%arg0: tensor<64x32xf32>, %arg1: tensor<32x32xf32> {keras.donated = 0 : i64, keras.name = "p"}, %arg2: tensor<32x32xf32> {keras.donated = 1 : i64, keras.name = "q"}) -> (tensor<32x32xf32>, tensor<32x32xf32>) {
    %0 = call @dense_matmul_0(%arg0) : (tensor<64x32xf32>) -> tensor<32x32xf32>
    %1 = call @optimizer_sub_3(%arg1, %0) : (tensor<32x32xf32>, tensor<32x32xf32>) -> tensor<32x32xf32>
    %2 = call @dense_1_exp_1(%arg0) : (tensor<64x32xf32>) -> tensor<64x32xf32>
    %3 = call @dense_1_matmul_2(%2, %arg0) : (tensor<64x32xf32>, tensor<64x32xf32>) -> tensor<32x32xf32>
    %4 = call @other_maximum_4(%arg2, %3) : (tensor<32x32xf32>, tensor<32x32xf32>) -> tensor<32x32xf32>
    return %1, %4 : tensor<32x32xf32>, tensor<32x32xf32>
  }
}
