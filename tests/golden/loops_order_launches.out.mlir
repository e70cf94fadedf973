#map = affine_map<() -> ()>
#map1 = affine_map<(d0, d1) -> (d0, d1)>
#map2 = affine_map<(d0, d1) -> (d0, d1 mod 8)>
#map3 = affine_map<(d0, d1) -> (d0, d1 + 4)>
#map4 = affine_map<(d0, d1, d2) -> (d0, d1, d2)>
module attributes {keras.stage = "regions"} {
  func.func private @while0(tensor<i64>, tensor<2x4xf32>) -> (tensor<i64>, tensor<2x4xf32>) attributes {keras.while = {body = @while0_body, condition = @while0_condition}}
  func.func private @scan0(tensor<2x4xf32>, tensor<3x2x8xf32>, tensor<4x8xf32>) -> (tensor<2x4xf32>, tensor<3x2x4xf32>, tensor<3x2x4xf32>) attributes {keras.scan = {body = @scan0_body, carries = 1 : i64, length = 3 : i64, reverse = false, scanned = 1 : i64}}
  func.func private @search_lt_0(%arg0: tensor<i64>) -> tensor<i1> attributes {keras.kernel = "loop", keras.layers = ["search"]} {
    %0 = tensor.empty() : tensor<i1>
    %1 = linalg.generic {indexing_maps = [#map, #map], iterator_types = []} ins(%arg0 : tensor<i64>) outs(%0 : tensor<i1>) attrs =  {keras.op = "lt"} {
    ^bb0(%in: i64, %out: i1):
      %c4_i64 = arith.constant 4 : i64
      %2 = arith.cmpi slt, %in, %c4_i64 : i64
      linalg.yield %2 : i1
    } -> tensor<i1>
    return %1 : tensor<i1>
  }
  func.func private @search_add_1(%arg0: tensor<i64>) -> tensor<i64> attributes {keras.kernel = "loop", keras.layers = ["search"]} {
    %0 = tensor.empty() : tensor<i64>
    %1 = linalg.generic {indexing_maps = [#map, #map], iterator_types = []} ins(%arg0 : tensor<i64>) outs(%0 : tensor<i64>) attrs =  {keras.op = "add"} {
    ^bb0(%in: i64, %out: i64):
      %c1_i64 = arith.constant 1 : i64
      %2 = arith.addi %in, %c1_i64 : i64
      linalg.yield %2 : i64
    } -> tensor<i64>
    return %1 : tensor<i64>
  }
  func.func private @search_tanh_2(%arg0: tensor<2x4xf32>) -> tensor<2x4xf32> attributes {keras.kernel = "loop", keras.layers = ["search"]} {
    %0 = tensor.empty() : tensor<2x4xf32>
    %1 = linalg.generic {indexing_maps = [#map1, #map1], iterator_types = ["parallel", "parallel"]} ins(%arg0 : tensor<2x4xf32>) outs(%0 : tensor<2x4xf32>) attrs =  {keras.op = "tanh"} {
    ^bb0(%in: f32, %out: f32):
      %2 = math.tanh %in fastmath<reassoc,nsz,contract> : f32
      linalg.yield %2 : f32
    } -> tensor<2x4xf32>
    return %1 : tensor<2x4xf32>
  }
  func.func private @rnn_matmul_3(%arg0: tensor<2x4xf32>, %arg1: tensor<4x8xf32>) -> tensor<2x8xf32> attributes {keras.kernel = "matmul", keras.layers = ["rnn"]} {
    %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = false, transpose_b = false} : (tensor<2x4xf32>, tensor<4x8xf32>) -> tensor<2x8xf32>
    return %0 : tensor<2x8xf32>
  }
  func.func private @rnn_slice_sigmoid_mul_4(%arg0: tensor<2x8xf32>, %arg1: tensor<2x8xf32>) -> tensor<2x4xf32> attributes {keras.kernel = "loop", keras.layers = ["rnn"], keras.reason = ["rnn_matmul_3: takes no epilogue"]} {
    %0 = tensor.empty() : tensor<2x4xf32>
    %1 = linalg.generic {indexing_maps = [#map2, #map2, #map3, #map3, #map1], iterator_types = ["parallel", "parallel"]} ins(%arg0, %arg1, %arg0, %arg1 : tensor<2x8xf32>, tensor<2x8xf32>, tensor<2x8xf32>, tensor<2x8xf32>) outs(%0 : tensor<2x4xf32>) attrs =  {keras.op = "mul"} {
    ^bb0(%in: f32, %in_0: f32, %in_1: f32, %in_2: f32, %out: f32):
      %2 = arith.addf %in, %in_0 fastmath<reassoc,nsz,contract> : f32
      %cst = arith.constant 1.000000e+00 : f32
      %3 = arith.negf %2 fastmath<reassoc,nsz,contract> : f32
      %4 = math.exp %3 fastmath<reassoc,nsz,contract> : f32
      %5 = arith.addf %cst, %4 fastmath<reassoc,nsz,contract> : f32
      %6 = arith.divf %cst, %5 fastmath<reassoc,nsz,contract> : f32
      %7 = arith.addf %in_1, %in_2 fastmath<reassoc,nsz,contract> : f32
      %8 = arith.mulf %6, %7 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %8 : f32
    } -> tensor<2x4xf32>
    return %1 : tensor<2x4xf32>
  }
  func.func private @full_5() -> tensor<2x4xf32> attributes {keras.kernel = "loop", keras.layers = []} {
    %0 = tensor.empty() : tensor<2x4xf32>
    %1 = linalg.generic {indexing_maps = [#map1], iterator_types = ["parallel", "parallel"]} outs(%0 : tensor<2x4xf32>) attrs =  {keras.op = "full"} {
    ^bb0(%out: f32):
      %cst = arith.constant 0.000000e+00 : f32
      linalg.yield %cst : f32
    } -> tensor<2x4xf32>
    return %1 : tensor<2x4xf32>
  }
  func.func private @add_add_6(%arg0: tensor<3x2x4xf32>, %arg1: tensor<3x2x4xf32>) -> tensor<3x2x4xf32> attributes {keras.kernel = "loop", keras.layers = ["add"], keras.reason = ["@scan0: takes no epilogue"]} {
    %0 = tensor.empty() : tensor<3x2x4xf32>
    %1 = linalg.generic {indexing_maps = [#map4, #map4, #map4], iterator_types = ["parallel", "parallel", "parallel"]} ins(%arg0, %arg1 : tensor<3x2x4xf32>, tensor<3x2x4xf32>) outs(%0 : tensor<3x2x4xf32>) attrs =  {keras.op = "add"} {
    ^bb0(%in: f32, %in_0: f32, %out: f32):
      %2 = arith.addf %in, %in_0 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %2 : f32
    } -> tensor<3x2x4xf32>
    return %1 : tensor<3x2x4xf32>
  }
  func.func private @while0_condition(%arg0: tensor<i64>, %arg1: tensor<2x4xf32>) -> tensor<i1> {
    %0 = call @search_lt_0(%arg0) : (tensor<i64>) -> tensor<i1>
    return %0 : tensor<i1>
  }
  func.func private @while0_body(%arg0: tensor<i64>, %arg1: tensor<2x4xf32>) -> (tensor<i64>, tensor<2x4xf32>) {
    %0 = call @search_add_1(%arg0) : (tensor<i64>) -> tensor<i64>
    %1 = call @search_tanh_2(%arg1) : (tensor<2x4xf32>) -> tensor<2x4xf32>
    return %0, %1 : tensor<i64>, tensor<2x4xf32>
  }
  func.func private @scan0_body(%arg0: tensor<2x4xf32>, %arg1: tensor<2x8xf32>, %arg2: tensor<4x8xf32>) -> (tensor<2x4xf32>, tensor<2x4xf32>, tensor<2x4xf32>) {
    %0 = call @rnn_matmul_3(%arg0, %arg2) : (tensor<2x4xf32>, tensor<4x8xf32>) -> tensor<2x8xf32>
    %1 = call @rnn_slice_sigmoid_mul_4(%arg1, %0) : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x4xf32>
    return %1, %arg0, %1 : tensor<2x4xf32>, tensor<2x4xf32>, tensor<2x4xf32>
  }
  func.func @main(%arg0: tensor<3x2x8xf32> {keras.name = "data/x"}, %arg1: tensor<4x8xf32> {keras.name = "rnn/kernel"}, %arg2: tensor<i64> {keras.donated = 1 : i64, keras.name = "search/count"}) -> (tensor<3x2x4xf32>, tensor<i64>, tensor<3x2x4xf32>, tensor<2x4xf32>) {
    %0 = call @full_5() : () -> tensor<2x4xf32>
    %1:3 = call @scan0(%0, %arg0, %arg1) : (tensor<2x4xf32>, tensor<3x2x8xf32>, tensor<4x8xf32>) -> (tensor<2x4xf32>, tensor<3x2x4xf32>, tensor<3x2x4xf32>)
    %2:2 = call @while0(%arg2, %1#0) : (tensor<i64>, tensor<2x4xf32>) -> (tensor<i64>, tensor<2x4xf32>)
    %3 = call @add_add_6(%1#1, %1#2) : (tensor<3x2x4xf32>, tensor<3x2x4xf32>) -> tensor<3x2x4xf32>
    return %3, %2#0, %1#2, %2#1 : tensor<3x2x4xf32>, tensor<i64>, tensor<3x2x4xf32>, tensor<2x4xf32>
  }
}
